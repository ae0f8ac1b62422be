#!lua flags=allow-oom
-- Have a destination that backs off tried now, because a person says so.
-- KEYS: backoff, destinations   ARGV: destination, broker db, wake ttl ms, flag, list, wake-up
-- Returns whether it did back off, as 0 or 1.
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('ZADD', KEYS[2], 'LT', now, ARGV[1])
push_wakeups(ARGV[2], ARGV[3], {{ARGV[4], ARGV[5], ARGV[6], ARGV[1]}})
return 1
