#!lua flags=allow-oom
-- Renew the lease of one message at one destination while it is being worked on.
-- KEYS: delivery, queue   ARGV: queue-id, destination, token, lease ms
if redis.call('HGET', KEYS[1], 'o:' .. ARGV[2]) ~= ARGV[3] then return 0 end
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
return 1
