#!lua flags=allow-oom
-- Right before the final dot: is the lease still ours? Then renew it, and write down whom the dot is for and who is
-- still without a delivery.
-- KEYS: delivery, queue   ARGV: queue-id, destination, token, lease ms, recipients in doubt, recipients left
if redis.call('HGET', KEYS[1], 'o:' .. ARGV[2]) ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'x:' .. ARGV[2], ARGV[5])
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'r:' .. ARGV[2], ARGV[6]) end
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
return 1
