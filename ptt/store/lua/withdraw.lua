#!lua flags=allow-oom
-- Take back a message whose client was told 451, unless it is signed: who is about to sign it finds its lease lost. The
-- name stays taken for a while: a broken connection may still deliver the command that spools it.
-- KEYS: message, sign queue, content list, same; the last if repeats are known
-- ARGV: queue-id, how long the name stays taken (ms)
-- Returns 1 when it is taken back, 0 when that is too late, 2 when its client made the submission again and heard 250.
if redis.call('EXISTS', DONE .. ARGV[1]) == 1 then return 0 end
if redis.call('HEXISTS', KEYS[1], 'signature') == 1 then return 0 end
if redis.call('HEXISTS', KEYS[1], 'kept') == 1 then return 2 end
if KEYS[4] and redis.call('GET', KEYS[4]) == ARGV[1] then redis.call('DEL', KEYS[4]) end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1], KEYS[3])
redis.call('HSET', KEYS[1], 'version', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
