#!lua flags=allow-oom
-- Take back a message whose client was told 451, unless the sign role has begun with it. The name stays taken for a
-- while: a broken connection may still deliver the command that spools it.
-- KEYS: message, sign queue, content list   ARGV: queue-id, how long the name stays taken (ms)
if redis.call('EXISTS', DONE .. ARGV[1]) == 1 then return 0 end
if redis.call('HEXISTS', KEYS[1], 'owner') == 1 or redis.call('HEXISTS', KEYS[1], 'signature') == 1 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1], KEYS[3])
redis.call('HSET', KEYS[1], 'version', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
