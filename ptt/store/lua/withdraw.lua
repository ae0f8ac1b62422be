#!lua flags=allow-oom
-- Take back a message whose client was told 451, unless the sign role has begun with it.
-- KEYS: message, sign queue, content list   ARGV: queue-id
if redis.call('HEXISTS', KEYS[1], 'owner') == 1 or redis.call('HEXISTS', KEYS[1], 'signature') == 1 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[3])
return redis.call('DEL', KEYS[1])
