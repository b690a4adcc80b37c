// A backend for Postern, with Newtonsoft.Json and Mono.Data.Sqlite (with .NET: Microsoft.Data.Sqlite, under the same names):
// mcs -r:Newtonsoft.Json.dll,System.Data,Mono.Data.Sqlite Backend.cs && POSTERN_SECRET=whsec_… DATABASE=game.db PORT=7000 mono Backend.exe
using System;
using System.IO;
using System.Linq;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Mono.Data.Sqlite;
using Newtonsoft.Json.Linq;

static class Backend
{
    const int AgeMaxSeconds = 300, BodyMax = 1024 * 1024;
    static readonly string[] Settle = File.ReadAllText("settle.sql").Split(new[] { ";\n" }, StringSplitOptions.RemoveEmptyEntries);

    /// Whether the gateway signed these bytes, a short time ago (Standard Webhooks).
    static bool Verified(WebHeaderCollection headers, byte[] body)
    {
        string time = headers["webhook-timestamp"] ?? "", signatures = headers["webhook-signature"] ?? "";
        byte[] signed = Encoding.UTF8.GetBytes(headers["webhook-id"] + "." + time + ".").Concat(body).ToArray();
        bool matches = false;
        foreach (string secret in Environment.GetEnvironmentVariable("POSTERN_SECRET").Split(' '))    // two while one replaces the other
            using (var mac = new HMACSHA256(Convert.FromBase64String(Regex.Replace(secret, "^whsec_", ""))))
                foreach (string one in signatures.Split(' '))
                    matches |= SameText(one, "v1," + Convert.ToBase64String(mac.ComputeHash(signed)));
        return matches && long.TryParse(time, out long sent) && Math.Abs(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - sent) <= AgeMaxSeconds;
    }

    static bool SameText(string one, string other)       // in a time that does not tell where they differ; .NET: CryptographicOperations.FixedTimeEquals
        => one.Length == other.Length && one.Zip(other, (a, b) => a ^ b).Aggregate(0, (all, bits) => all | bits) == 0;

    static int Run(SqliteConnection db, string sql, params object[] values)
    {
        SqliteCommand command = db.CreateCommand();
        command.CommandText = sql;
        foreach (object value in values) command.Parameters.Add(new SqliteParameter { Value = value ?? DBNull.Value });
        return command.ExecuteNonQuery();
    }

    /// Records the event, and what it does to a balance, in one transaction: both, or neither.
    static void Record(SqliteConnection db, string body)
    {
        JObject e = JObject.Parse(body);
        Match whole = Regex.Match((string)e["amount"] ?? "", @"^([0-9]{1,9})(\.0+)?\z");
        int amount = whole.Success ? int.Parse(whole.Groups[1].Value) : 0;                              // a text: never make a float of it
        using (SqliteTransaction transaction = db.BeginTransaction())                                      // Dispose rolls back
        {
            int added = Run(db, "INSERT OR IGNORE INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,'new')", (string)e["id"], (string)e["source"],
                (string)e["transaction"], (string)e["kind"], (string)e["effect"], (bool)e["test"] ? 1 : 0, (string)e["user"],
                (string)e["item"], amount, (string)e["reverses"], body);
            if (added == 1) foreach (string sql in Settle) Run(db, sql, (string)e["id"]);               // otherwise a retry or a replay
            transaction.Commit();
        }
    }

    static void Main()
    {
        var db = new SqliteConnection("Data Source=" + Environment.GetEnvironmentVariable("DATABASE"));
        db.Open();
        Run(db, File.ReadAllText("schema.sql"));
        var server = new HttpListener { Prefixes = { "http://127.0.0.1:" + Environment.GetEnvironmentVariable("PORT") + "/" } };
        server.Start();
        while (true)                                                                                    // one call at a time
        {
            HttpListenerContext call = server.GetContext();
            try
            {
                byte[] body = new BinaryReader(call.Request.InputStream).ReadBytes(BodyMax);           // what is longer is cut, and does not verify
                bool verified = Verified((WebHeaderCollection)call.Request.Headers, body);             // these bytes were signed, before any parser
                if (verified) Record(db, Encoding.UTF8.GetString(body));
                call.Response.StatusCode = verified ? 204 : 401;                                       // only now: it is in the database
            }
            catch (Exception error) { Console.Error.WriteLine(error); call.Response.StatusCode = 500; } // no 2xx: the gateway retries
            call.Response.Close();
        }
    }
}
