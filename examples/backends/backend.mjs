// A backend for Postern, with Node 22.13 or later alone: POSTERN_SECRET=whsec_… DATABASE=game.db PORT=7000 node backend.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";

// Two secrets, separated by a space, while one replaces the other.
const KEYS = process.env.POSTERN_SECRET.split(" ").map((secret) => Buffer.from(secret.replace(/^whsec_/, ""), "base64"));
const [AGE_MAX_SECONDS, BODY_MAX] = [300, 1024 * 1024];

const read = (name) => readFileSync(new URL(name, import.meta.url), "utf8");
const db = new DatabaseSync(process.env.DATABASE ?? "game.db");
db.exec(read("schema.sql"));
const INSERT = db.prepare("INSERT OR IGNORE INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,'new')");
const SETTLE = read("settle.sql").split(";\n").filter((sql) => sql.trim()).map((sql) => db.prepare(sql));

/** Whether the gateway signed these bytes, a short time ago (Standard Webhooks). */
function verified(headers, body) {
  const { "webhook-id": id = "", "webhook-timestamp": time = "", "webhook-signature": signatures = "" } = headers;
  const matches = KEYS.some((key) => {
    const expected = Buffer.from("v1," + createHmac("sha256", key).update(`${id}.${time}.`).update(body).digest("base64"));
    return signatures.split(" ").map((one) => Buffer.from(one)).some((one) => one.length === expected.length && timingSafeEqual(one, expected));
  });
  return matches && /^\d+$/.test(time) && Math.abs(Date.now() / 1000 - Number(time)) <= AGE_MAX_SECONDS;
}

/** Records the event, and what it does to a balance, in one transaction: both, or neither. */
function record(event, body) {
  const { id, source, transaction, kind = null, effect = null, test, user, item, reverses = null } = event;
  const whole = /^([0-9]{1,9})(\.0+)?$/.exec(event.amount ?? ""); // a text: never make a float of it
  db.exec("BEGIN IMMEDIATE");
  try {
    const amount = whole ? Number(whole[1]) : 0;
    const { changes } = INSERT.run(id, source, transaction, kind, effect, Number(test), user, item, amount, reverses, body);
    if (changes) for (const statement of SETTLE) statement.run(id); // otherwise a retry or a replay
    db.exec("COMMIT");
  } catch (error) {
    db.exec("ROLLBACK");
    throw error;
  }
}

createServer(async (request, response) => {
  const reply = (status) => response.writeHead(status).end();
  const chunks = []; // these bytes were signed, before any parser: in Express, use express.raw()
  let size = 0;
  for await (const chunk of request) {
    if ((size += chunk.length) > BODY_MAX) return reply(413);
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (!verified(request.headers, body)) return reply(401);
  try {
    record(JSON.parse(body), body.toString());
    reply(204); // only now: it is in the database
  } catch (error) {
    console.error(error);
    reply(500); // no 2xx: the gateway retries
  }
}).listen(Number(process.env.PORT ?? 7000), "127.0.0.1");
