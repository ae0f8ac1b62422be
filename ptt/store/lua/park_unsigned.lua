#!lua flags=allow-oom
-- Park a message that must never be signed: its seal, its content or its version is wrong.
-- KEYS: message, sign queue, parked, events   ARGV: queue-id, token, reason, most events
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'owner', 'claims')
redis.call('HSET', KEYS[1], 'parked', ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1] .. ' ')
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[4], '*', 'queue_id', ARGV[1], 'event', 'recipient.parked', 'reason', ARGV[3])
return 1
