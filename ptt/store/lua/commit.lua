#!lua flags=allow-oom
-- Right before the final dot: is the lease still ours? Then renew it and write down that the dot may be sent.
-- KEYS: message, queue   ARGV: queue-id, destination, token, lease ms
if redis.call('HGET', KEYS[1], 'o:' .. ARGV[2]) ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'x:' .. ARGV[2], 1)
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
return 1
