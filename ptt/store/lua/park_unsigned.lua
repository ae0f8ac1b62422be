#!lua flags=allow-oom
-- Park a message that must never be signed, or reported on: its seal, its content or its version is wrong.
-- KEYS: message or delivery, sign queue or reports, parked, events
-- ARGV: queue-id, token, reason, most events, what the fields begin with (empty or report_), the same in the list of
--   what is parked (empty or !report), event
if redis.call('HGET', KEYS[1], ARGV[5] .. 'owner') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[5] .. 'owner', ARGV[5] .. 'claims')
redis.call('HSET', KEYS[1], ARGV[5] .. 'parked', ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1] .. ' ' .. ARGV[6])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[4], '*', 'queue_id', ARGV[1], 'event', ARGV[7], 'reason', ARGV[3])
return 1
