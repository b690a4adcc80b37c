<?php
// A backend for Postern, with PHP 8 and pdo_sqlite: POSTERN_SECRET=whsec_… DATABASE=game.db php -S 127.0.0.1:7000 backend.php
declare(strict_types=1);
const AGE_MAX_SECONDS = 300;
const BODY_MAX = 1024 * 1024;

/** Whether the gateway signed these bytes, a short time ago (Standard Webhooks). */
function verified(string $body): bool
{
    $time = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    $signed = ($_SERVER['HTTP_WEBHOOK_ID'] ?? '') . ".$time.$body";
    $matches = false;
    foreach (explode(' ', getenv('POSTERN_SECRET')) as $secret) {              // two while one replaces the other
        $key = base64_decode(preg_replace('/^whsec_/', '', $secret));
        $expected = 'v1,' . base64_encode(hash_hmac('sha256', $signed, $key, true));
        foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $supplied) {
            $matches = hash_equals($expected, $supplied) || $matches;
        }
    }
    return $matches && ctype_digit($time) && abs(time() - (int) $time) <= AGE_MAX_SECONDS;
}

/** Runs one statement, and returns the number of rows that it changed. */
function run(PDO $db, string $sql, array $values): int
{
    $statement = $db->prepare($sql);
    $statement->execute($values);
    return $statement->rowCount();
}

/** Records the event, and what it does to a balance, in one transaction: both, or neither. */
function record(PDO $db, array $event, string $body): void
{
    $whole = preg_match('/^([0-9]{1,9})(\.0+)?$/D', $event['amount'] ?? '', $digits);     // a text: never make a float of it
    $row = [$event['id'], $event['source'], $event['transaction'], $event['kind'] ?? null, $event['effect'] ?? null, (int) $event['test'],
        $event['user'], $event['item'], $whole ? (int) $digits[1] : 0, $event['reverses'] ?? null, $body];
    $db->exec('BEGIN IMMEDIATE');                                              // PHP rolls back when the script ends before COMMIT
    if (run($db, "INSERT OR IGNORE INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,'new')", $row)) {
        foreach (explode(";\n", trim(file_get_contents(__DIR__ . '/settle.sql'))) as $sql) {
            run($db, rtrim($sql, ';'), [$event['id']]);                        // not for a retry or a replay
        }
    }
    $db->exec('COMMIT');
}

$body = file_get_contents('php://input', length: BODY_MAX + 1);                // these bytes were signed: not $_POST
if (strlen($body) > BODY_MAX) {
    http_response_code(413);
} elseif (!verified($body)) {
    http_response_code(401);
} else {
    http_response_code(500);                                                   // an exception leaves it so: the gateway retries
    $db = new PDO('sqlite:' . (getenv('DATABASE') ?: 'game.db'), options: [PDO::ATTR_TIMEOUT => 10]);
    $db->exec(file_get_contents(__DIR__ . '/schema.sql'));                     // here for brevity: an installation does this once
    record($db, json_decode($body, true, flags: JSON_THROW_ON_ERROR), $body);
    http_response_code(204);                                                   // only now: it is in the database
}
