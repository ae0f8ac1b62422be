#!lua flags=allow-oom
-- Let a message wait that cannot be signed, or reported on, now: no key yet, or the worker stops.
-- KEYS: message or delivery, sign queue or reports
-- ARGV: queue-id, token, delay ms, reason, fields of owner, claims and newest reason
if redis.call('HGET', KEYS[1], ARGV[5]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[5], ARGV[6])
redis.call('HSET', KEYS[1], ARGV[7], ARGV[4])
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
return 1
