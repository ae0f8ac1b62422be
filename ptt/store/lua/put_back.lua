#!lua flags=allow-oom
-- Let a message wait that cannot be signed, or reported on, now: no key yet, or the worker stops.
-- KEYS: message, sign queue or reports   ARGV: queue-id, token, delay ms, what the fields begin with (empty or report_)
if redis.call('HGET', KEYS[1], ARGV[4] .. 'owner') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[4] .. 'owner', ARGV[4] .. 'claims')
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
return 1
