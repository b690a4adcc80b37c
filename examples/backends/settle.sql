-- What a new event does to a balance. Each backend runs these four statements in the transaction that inserted the event,
-- with the event's id for each question mark. They are the same in every language, so they are here once.

-- 1. The decision. A person looks at `review`: no user, no whole amount, a revoke without a transaction, an unknown effect.
UPDATE event SET state = CASE
    WHEN test = 1 THEN 'test'               -- acknowledged, and not granted
    WHEN effect = 'none' THEN 'none'        -- a push, a pending state: no player is paid for it
    WHEN EXISTS (SELECT 1 FROM event AS other WHERE other.source = event.source AND other.tx = event.tx
                 AND other.effect = event.effect AND other.id <> event.id AND other.test = 0)
        THEN 'repeat'                       -- after a restore: another id. A pending state may share the transaction of its grant
    WHEN effect = 'revoke' AND reverses IS NOT NULL THEN 'revoked'
    WHEN effect = 'grant' AND EXISTS (SELECT 1 FROM event AS other WHERE other.source = event.source
                 AND other.reverses = event.tx AND other.state = 'revoked')
        THEN 'taken_back'                   -- the reversal was faster: events arrive in any order
    WHEN effect = 'grant' AND user_id IS NOT NULL AND amount > 0 THEN 'granted'
    ELSE 'review' END
WHERE id = ?;

-- 2. A grant.
INSERT INTO balance (user_id, item, amount)
SELECT user_id, coalesce(item, 'coin'), amount FROM event WHERE id = ? AND state = 'granted'
ON CONFLICT (user_id, item) DO UPDATE SET amount = balance.amount + excluded.amount;

-- 3. A reversal takes back what was granted. Its own amount is no guide: some senders write 10, others -10, others nothing.
INSERT INTO balance (user_id, item, amount)
SELECT first.user_id, coalesce(first.item, 'coin'), -first.amount FROM event
JOIN event AS first ON first.source = event.source AND first.tx = event.reverses AND first.state = 'granted'
WHERE event.id = ? AND event.state = 'revoked'
ON CONFLICT (user_id, item) DO UPDATE SET amount = balance.amount + excluded.amount;

-- 4. Once only: a second reversal of the same transaction finds nothing.
UPDATE event SET state = 'taken_back' WHERE state = 'granted'
AND (source, tx) IN (SELECT source, reverses FROM event WHERE id = ? AND state = 'revoked');
