// A backend for Postern, with the JDK (17), Gson, and SQLite's JDBC driver:
// POSTERN_SECRET=whsec_… DATABASE=game.db PORT=7000 java -cp gson.jar:sqlite-jdbc.jar Backend.java
import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.*;
import com.sun.net.httpserver.*;
import java.net.InetSocketAddress;
import java.nio.file.*;
import java.security.MessageDigest;
import java.sql.*;
import java.util.*;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

class Backend {
    static final int AGE_MAX_SECONDS = 300, BODY_MAX = 1024 * 1024;

    /** Whether the gateway signed these bytes, a short time ago (Standard Webhooks). */
    static boolean verified(Headers headers, byte[] body) throws Exception {
        var time = Objects.requireNonNullElse(headers.getFirst("webhook-timestamp"), "");
        var signatures = Objects.requireNonNullElse(headers.getFirst("webhook-signature"), "");
        var matches = false;
        for (var secret : System.getenv("POSTERN_SECRET").split(" ")) {       // two while one replaces the other
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(Base64.getDecoder().decode(secret.replaceFirst("^whsec_", "")), "HmacSHA256"));
            mac.update((headers.getFirst("webhook-id") + "." + time + ".").getBytes(UTF_8));
            var expected = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes(UTF_8);
            for (var one : signatures.split(" ")) matches |= MessageDigest.isEqual(expected, one.getBytes(UTF_8));
        }
        var now = System.currentTimeMillis() / 1000;
        return matches && time.matches("\\d{1,12}") && Math.abs(now - Long.parseLong(time)) <= AGE_MAX_SECONDS;
    }

    /** Records the event, and what it does to a balance, in one transaction: both, or neither. */
    static synchronized void record(Connection db, List<String> settle, String body) throws SQLException {
        var event = JsonParser.parseString(body).getAsJsonObject();
        var amount = Objects.requireNonNullElse(text(event, "amount"), "");    // a text: never make a float of it
        var whole = amount.matches("[0-9]{1,9}(\\.0+)?") ? Integer.parseInt(amount.split("\\.")[0]) : 0;
        try {
            var added = run(db, "INSERT OR IGNORE INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,'new')", text(event, "id"), text(event, "source"),
                text(event, "transaction"), text(event, "kind"), text(event, "effect"), event.get("test").getAsBoolean() ? 1 : 0,
                text(event, "user"), text(event, "item"), whole, text(event, "reverses"), body);
            if (added == 1) for (var sql : settle) run(db, sql, text(event, "id"));        // otherwise a retry or a replay
            db.commit();
        } finally {
            db.rollback();                                                     // does nothing after the commit
        }
    }

    static int run(Connection db, String sql, Object... values) throws SQLException {
        try (var statement = db.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
            return statement.executeUpdate();
        }
    }

    static String text(JsonObject event, String name) {
        return event.has(name) && !event.get(name).isJsonNull() ? event.get(name).getAsString() : null;
    }

    public static void main(String[] arguments) throws Exception {
        var db = DriverManager.getConnection("jdbc:sqlite:" + System.getenv("DATABASE"));
        db.createStatement().executeUpdate(Files.readString(Path.of("schema.sql")));
        db.setAutoCommit(false);
        var settle = Arrays.stream(Files.readString(Path.of("settle.sql")).split(";\n")).filter(sql -> !sql.isBlank()).toList();
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 0);
        server.createContext("/", exchange -> {
            try (exchange) {
                var body = exchange.getRequestBody().readNBytes(BODY_MAX + 1); // these bytes were signed, before any parser
                var status = body.length > BODY_MAX ? 413 : verified(exchange.getRequestHeaders(), body) ? 204 : 401;
                if (status == 204) record(db, settle, new String(body, UTF_8));
                exchange.sendResponseHeaders(status, -1);                      // only now: it is in the database
            } catch (Exception error) {
                error.printStackTrace();                                       // the connection closes. No 2xx: the gateway retries
            }
        });
        server.start();
    }
}
