#!lua flags=allow-oom
-- Let a message wait that cannot be signed now: no key yet, or the worker stops.
-- KEYS: message, sign queue   ARGV: queue-id, token, delay ms, reason
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'owner', 'claims')
redis.call('HSET', KEYS[1], 'l:', ARGV[4])
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
return 1
