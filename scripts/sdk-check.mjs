// The senders' own libraries for scripts/sdk-check: signs callbacks, or says whether a callback verifies. One JSON question on standard
// input, one JSON answer on standard output. Secrets are made up, key pairs are made at each run.

import { createRequire } from "node:module";
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";

const require = createRequire(path.join(process.env.SDKS, "package.json"));
const version = name => JSON.parse(fs.readFileSync(path.join(process.env.SDKS, "node_modules", name, "package.json"))).version;
// A library that is only for `import`.
const module = name => {
    const folder = path.join(process.env.SDKS, "node_modules", name);
    const { exports } = JSON.parse(fs.readFileSync(path.join(folder, "package.json")));
    return import(path.join(folder, exports["."].node.import));
};
const asked = JSON.parse(fs.readFileSync(0));
const seconds = String(Math.floor(Date.now() / 1000));
const base64 = text => Buffer.from(text).toString("base64");
const text = call => Buffer.from(call.body, "base64").toString();
const header = (call, name) => Object.entries(call.headers).find(([key]) => key.toLowerCase() === name.toLowerCase())?.[1];
const spki = key => key.export({ type: "spki", format: "der" }).toString("base64");

// Key pairs have to be the same when a callback is verified: they are derived from nothing, so they are kept in a file of the run.
const KEYS = path.join(process.env.SDKS, "keys.json");
function keys() {
    if (asked.do === "make") {
        const rsa = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
        const ec = crypto.generateKeyPairSync("ec", { namedCurve: "prime256v1" });
        const ed = crypto.generateKeyPairSync("ed25519");
        const pem = key => key.export({ type: "pkcs8", format: "pem" });
        fs.writeFileSync(KEYS, JSON.stringify({ rsa: pem(rsa.privateKey), ec: pem(ec.privateKey), ed: pem(ed.privateKey) }), { mode: 0o600 });
    }
    const stored = JSON.parse(fs.readFileSync(KEYS));
    return Object.fromEntries(Object.entries(stored).map(([name, pem]) => [name, crypto.createPrivateKey(pem)]));
}
const own = keys();
const publicOf = key => crypto.createPublicKey(key);

const secret = name => `sdk-check-${name}-0123456789abcdef`;
const whsec = name => "whsec_" + base64(secret(name));
const API_V3 = "0123456789abcdef0123456789abcdef";
const ADYEN = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
const AES_KEY = base64("0123456789abcdef0123456789abcdef").slice(0, 43);

const post = (source, headers, body, type = "application/json") => ({
    method: "POST", url: `${asked.base}/callback/${source}`, headers: { "Content-Type": type, ...headers }, body: base64(body),
});
const sign = (name, key, message, options = {}) => crypto.sign(name, Buffer.from(message), { key, ...options }).toString("base64");
const order = () => `o-${crypto.randomBytes(4).toString("hex")}`;

// Each library: the source it needs, what makes a callback, and, if it verifies, how.
const LIBRARIES = {
    stripe: {
        sender: "stripe", accepted: 200, alter: "body", settings: { secrets: secret("stripe") },
        make() {
            const body = JSON.stringify({ id: `evt_${order()}`, object: "event", type: "charge.succeeded", data: { object: { id: "ch_1", amount: 999, currency: "usd" } } });
            const stripe = new (require("stripe"))("sk_test_x");
            return post("stripe", { "Stripe-Signature": stripe.webhooks.generateTestHeaderString({ payload: body, secret: secret("stripe") }) }, body);
        },
    },
    standardwebhooks: {
        sender: "standard-webhooks", accepted: 200, alter: "body", settings: { secrets: whsec("standardwebhooks") },
        make() {
            const { Webhook } = require("standardwebhooks");
            const id = `msg_${order()}`, body = JSON.stringify({ type: "reward.granted", data: { user: "u1" } });
            const signature = new Webhook(whsec("standardwebhooks")).sign(id, new Date(Number(seconds) * 1000), body);
            return post("standardwebhooks", { "webhook-id": id, "webhook-timestamp": seconds, "webhook-signature": signature }, body);
        },
    },
    svix: {
        sender: "standard-webhooks", accepted: 200, alter: "body", settings: { secrets: whsec("svix") },
        make() {
            const { Webhook } = require("svix");
            const id = `msg_${order()}`, body = JSON.stringify({ type: "reward.granted", data: { user: "u1" } });
            const signature = new Webhook(this.settings.secrets).sign(id, new Date(Number(seconds) * 1000), body);
            return post("svix", { "svix-id": id, "svix-timestamp": seconds, "svix-signature": signature }, body);
        },
    },
    twilio: {
        sender: "twilio", accepted: 204, alter: "body", settings: { secrets: secret("twilio") },
        make() {
            const fields = { MessageSid: `SM${order()}`, MessageStatus: "sent", AccountSid: "AC1", From: "+14158675309", To: "+18005551212" };
            const url = `${asked.base}/callback/twilio`;
            const signature = require("twilio").getExpectedTwilioSignature(secret("twilio"), url, fields);
            return post("twilio", { "X-Twilio-Signature": signature }, new URLSearchParams(fields).toString(), "application/x-www-form-urlencoded");
        },
    },
    "@adyen/api-library": {
        sender: "adyen", accepted: 200, alter: "body", settings: { secrets: ADYEN },
        make() {
            const { HmacValidator } = require("@adyen/api-library").hmacValidator ? { HmacValidator: require("@adyen/api-library").hmacValidator } : require("@adyen/api-library");
            const item = {
                amount: { currency: "EUR", value: 1000 }, eventCode: "AUTHORISATION", eventDate: "2026-11-30T00:00:00+00:00", merchantAccountCode: "M1",
                merchantReference: "o-1", originalReference: "", paymentMethod: "visa", pspReference: order(), reason: "", success: "true",
            };
            item.additionalData = { hmacSignature: new HmacValidator().calculateHmac(item, ADYEN) };
            // The last member is one that the signature covers: it is the one that is altered.
            const { success, ...rest } = item;
            return post("adyen", {}, JSON.stringify({ live: "false", notificationItems: [{ NotificationRequestItem: { ...rest, success } }] }));
        },
    },
    "@wecom/crypto": {
        sender: "wecom", accepted: 200, alter: "inside", settings: { secrets: secret("wecom"), aes_key: AES_KEY, corp_id: "wx1" },
        make() {
            const { encrypt, getSignature } = require("@wecom/crypto");
            const message = `<xml><ToUserName>wx1</ToUserName><FromUserName>u1</FromUserName><CreateTime>${seconds}</CreateTime><MsgType>text</MsgType><Content>hi</Content><MsgId>${Date.now()}</MsgId><AgentID>1</AgentID></xml>`;
            const sealed = encrypt(AES_KEY, message, "wx1");
            const signature = getSignature(secret("wecom"), seconds, "12345", sealed);
            const call = post("wecom", {}, `<xml><ToUserName><![CDATA[wx1]]></ToUserName><Encrypt><![CDATA[${sealed}]]></Encrypt></xml>`, "text/xml");
            call.url += `?msg_signature=${signature}&timestamp=${seconds}&nonce=12345`;
            call.inside = sealed;
            return call;
        },
    },
    "@paddle/paddle-node-sdk": {
        sender: "paddle", accepted: 200, alter: "body", settings: { secrets: secret("paddle") }, by: "postern",
        sign: () => ({ body: JSON.stringify({ event_id: `evt_${order()}`, event_type: "transaction.completed", occurred_at: "2026-11-30T00:00:00Z", notification_id: "ntf_1", data: { id: "txn_1", status: "completed" } }) }),
        async verify(call) {
            const { Paddle } = require("@paddle/paddle-node-sdk");
            return await new Paddle("pdl_x").webhooks.isSignatureValid(text(call), secret("paddle"), header(call, "Paddle-Signature"));
        },
    },
    square: {
        sender: "square", accepted: 200, alter: "body", settings: { secrets: secret("square") }, by: "postern",
        sign: () => ({ body: JSON.stringify({ merchant_id: "ML1", type: "payment.updated", event_id: order(), data: { type: "payment", id: "pay-1", object: { payment: { id: order(), status: "COMPLETED", amount_money: { amount: 999, currency: "USD" } } } } }) }),
        verify: call => require("square").WebhooksHelper.verifySignature({
            requestBody: text(call), signatureHeader: header(call, "x-square-hmacsha256-signature"), signatureKey: secret("square"), notificationUrl: call.url,
        }),
    },
    "@line/bot-sdk": {
        sender: "line", accepted: 200, alter: "body", settings: { secrets: secret("line") }, by: "postern",
        sign: () => ({ body: JSON.stringify({ destination: "U0", events: [{ type: "message", webhookEventId: order(), source: { type: "user", userId: "u1" }, timestamp: 1 }] }) }),
        verify: call => require("@line/bot-sdk").validateSignature(text(call), secret("line"), header(call, "X-Line-Signature")),
    },
    razorpay: {
        sender: "razorpay", accepted: 200, alter: "body", settings: { secrets: secret("razorpay") }, by: "postern",
        sign: () => ({ "header.X-Razorpay-Event-Id": order(), body: JSON.stringify({ event: "payment.captured", payload: { payment: { entity: { id: "pay_1", order_id: order(), amount: 999, currency: "INR" } } } }) }),
        verify: call => require("razorpay").validateWebhookSignature(text(call), header(call, "X-Razorpay-Signature"), secret("razorpay")),
    },
    "@octokit/webhooks-methods": {
        sender: "github", accepted: 200, alter: "body", settings: { secrets: secret("github") }, by: "postern",
        sign: () => ({ "header.X-GitHub-Delivery": crypto.randomUUID(), "header.X-GitHub-Event": "push", body: JSON.stringify({ ref: order() }) }),
        verify: async call => (await module("@octokit/webhooks-methods")).verify(secret("github"), text(call), header(call, "X-Hub-Signature-256")),
    },
    "@sendgrid/eventwebhook": {
        sender: "sendgrid", accepted: 204, alter: "body", settings: { secrets: spki(publicOf(own.ec)) },
        make() {
            const body = JSON.stringify([{ sg_event_id: order(), email: "a@example.com", event: "delivered", timestamp: Number(seconds) }]);
            const signature = sign("sha256", own.ec, seconds + body);
            return post("sendgrid", { "X-Twilio-Email-Event-Webhook-Signature": signature, "X-Twilio-Email-Event-Webhook-Timestamp": seconds }, body);
        },
        verify(call) {
            const { EventWebhook } = require("@sendgrid/eventwebhook");
            const one = new EventWebhook();
            const key = one.convertPublicKeyToECDSA(spki(publicOf(own.ec)));
            return one.verifySignature(key, text(call), header(call, "X-Twilio-Email-Event-Webhook-Signature"), header(call, "X-Twilio-Email-Event-Webhook-Timestamp"));
        },
    },
    "discord-interactions": {
        sender: "discord", accepted: 204, alter: "body", settings: { secrets: publicOf(own.ed).export({ type: "spki", format: "der" }).subarray(-32).toString("hex") },
        make() {
            const body = JSON.stringify({ version: 1, application_id: "1", type: 1, event: { type: "ENTITLEMENT_CREATE", timestamp: "2026-11-30T00:00:00", data: { id: order(), user_id: "u1", sku_id: "s1" } } });
            const signature = crypto.sign(null, Buffer.from(seconds + body), own.ed).toString("hex");
            return post("discord-interactions", { "X-Signature-Ed25519": signature, "X-Signature-Timestamp": seconds }, body);
        },
        verify: call => require("discord-interactions").verifyKey(text(call), header(call, "X-Signature-Ed25519"), header(call, "X-Signature-Timestamp"), LIBRARIES["discord-interactions"].settings.secrets),
    },
    "alipay-sdk": {
        sender: "alipay", accepted: 200, reply: "success", alter: "body", settings: { secrets: spki(publicOf(own.rsa)), app_ids: "9021", seller_ids: "2088" },
        make() {
            const now = new Date(Date.now() + 8 * 3600e3).toISOString().slice(0, 19).replace("T", " ");
            const fields = {
                app_id: "9021", auth_app_id: "9021", buyer_id: "2088001", charset: "utf-8", notify_id: order().replace("-", ""), notify_time: now, notify_type: "trade_status_sync",
                out_trade_no: "o-1", seller_id: "2088", subject: "gems + 测试", total_amount: "0.01", trade_no: String(Date.now()), trade_status: "TRADE_SUCCESS", version: "1.0",
            };
            const signed = Object.keys(fields).sort().map(name => `${name}=${fields[name]}`).join("&");
            const all = { sign: sign("sha256", own.rsa, signed), sign_type: "RSA2", ...fields };
            return post("alipay-sdk", {}, new URLSearchParams(all).toString(), "application/x-www-form-urlencoded");
        },
        verify(call) {
            const { AlipaySdk } = require("alipay-sdk");
            const key = own.rsa.export({ type: "pkcs1", format: "pem" });
            const sdk = new AlipaySdk({ appId: "9021", privateKey: key, alipayPublicKey: spki(publicOf(own.rsa)) });
            const all = Object.fromEntries(new URLSearchParams(text(call)));
            return sdk.checkNotifySign(all) || sdk.checkNotifySignV2(all);
        },
    },
    "wechatpay-node-v3": {
        sender: "wechat-pay", accepted: 204, alter: "body", settings: { secrets: spki(publicOf(own.rsa)), api_v3_key: API_V3, merchant_ids: "1900", app_ids: "wx1" },
        make() {
            const message = JSON.stringify({ mchid: "1900", appid: "wx1", out_trade_no: "o-1", transaction_id: order(), trade_state: "SUCCESS", payer: { openid: "u1" }, amount: { total: 1, currency: "CNY" } });
            const nonce = crypto.randomBytes(6).toString("hex");
            const cipher = crypto.createCipheriv("aes-256-gcm", API_V3, nonce).setAAD(Buffer.from("transaction"));
            const sealed = Buffer.concat([cipher.update(message), cipher.final(), cipher.getAuthTag()]).toString("base64");
            const body = JSON.stringify({ id: crypto.randomUUID(), create_time: "2026-11-30T00:00:00+08:00", resource_type: "encrypt-resource", event_type: "TRANSACTION.SUCCESS",
                resource: { original_type: "transaction", algorithm: "AEAD_AES_256_GCM", ciphertext: sealed, associated_data: "transaction", nonce } });
            const signature = sign("sha256", own.rsa, `${seconds}\n${nonce}\n${body}\n`);
            return post("wechatpay-node-v3", { "Wechatpay-Timestamp": seconds, "Wechatpay-Nonce": nonce, "Wechatpay-Signature": signature, "Wechatpay-Serial": "PUB_KEY_ID_1" }, body);
        },
        async verify(call) {
            const Pay = require("wechatpay-node-v3");
            const key = own.rsa.export({ type: "pkcs8", format: "pem" });
            const pem = publicOf(own.rsa).export({ type: "spki", format: "pem" });
            const pay = Object.create(Pay.prototype);
            pay.key = API_V3;
            pay.privateKey = Buffer.from(key);
            Pay.certificates = { PUB_KEY_ID_1: pem };
            const verified = await pay.verifySign({
                timestamp: header(call, "Wechatpay-Timestamp"), nonce: header(call, "Wechatpay-Nonce"), body: text(call),
                serial: header(call, "Wechatpay-Serial"), signature: header(call, "Wechatpay-Signature"), apiSecret: API_V3,
            });
            if (!verified) return false;
            const { resource } = JSON.parse(text(call));
            const opened = pay.decipher_gcm(resource.ciphertext, resource.associated_data, resource.nonce, API_V3);
            return opened.mchid === "1900";
        },
    },
    "@apple/app-store-server-library": {
        sender: "apple-own", role: "verifies a vector of the file", accepted: 200, alter: "body", settings: { bundle_ids: "com.example" },
        // Signed with the chain of the sender file's first vector: no key of it is here.
        make() {
            const [head, body] = asked.apple.request.split("\n\n");
            fs.writeFileSync(path.join(process.env.SDKS, "apple-root.txt"), asked.apple.root);
            return post("apple", {}, body, head.includes("json") ? "application/json" : "text/plain");
        },
        async verify(call) {
            const { SignedDataVerifier, Environment } = require("@apple/app-store-server-library");
            const root = Buffer.from(fs.readFileSync(path.join(process.env.SDKS, "apple-root.txt"), "utf8"), "base64");
            for (const environment of [Environment.PRODUCTION, Environment.SANDBOX]) {
                try {
                    const verifier = new SignedDataVerifier([root], false, environment, "com.example", 1234);
                    const notification = await verifier.verifyAndDecodeNotification(JSON.parse(text(call)).signedPayload);
                    return notification.notificationUUID !== undefined;
                } catch (error) {
                    if (error.status !== 4 && error.status !== 5) return false;
                }
            }
            return false;
        },
    },
};

const sourceOf = name => name.split("/").pop().replace("app-store-server-library", "apple").replace("webhooks-methods", "github").replace("eventwebhook", "sendgrid")
    .replace("paddle-node-sdk", "paddle").replace("api-library", "adyen").replace("bot-sdk", "line").replace("crypto", "wecom");

async function make() {
    const sources = { slack: { sender: "slack", secrets: secret("slack") } };
    const cases = [{ name: "slack_sdk", library: "slack_sdk (PyPI)", source: "slack", role: "signs", by: "slack_sdk", secret: secret("slack"), accepted: 200, alter: "body" }];
    for (const [name, one] of Object.entries(LIBRARIES)) {
        const source = sourceOf(name);
        sources[source] = { sender: one.sender, ...one.settings };
        const role = one.role ?? (one.verify ? (one.by ? "verifies what postern sign made" : "verifies what was signed here") : "signs");
        const made = { name, library: `${name} ${version(name)}`, source, role, by: one.by, accepted: one.accepted, reply: one.reply, alter: one.alter, verifies: Boolean(one.verify) };
        if (one.by) made.sign = one.sign();
        else made.call = { ...one.make() };
        cases.push(made);
    }
    return { sources, cases };
}

async function verify() {
    const results = [];
    for (const call of asked.calls) {
        try {
            results.push(Boolean(await LIBRARIES[asked.case].verify(call)));
        } catch {
            results.push(false); // many of them throw
        }
    }
    return results;
}

process.stdout.write(JSON.stringify(asked.do === "make" ? await make() : await verify()));
