#!lua flags=allow-oom
-- Wake the sign role for all that is past due; see sweep.lua. A script of its own: the relay role may not wake it.
-- KEYS: sign queue, reports   ARGV: broker db, wake ttl ms, wake-up
-- Returns whether anything was past due, as 0 or 1.
if #redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1) == 0
  and #redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1) == 0 then
  return 0
end
push_wakeups(ARGV[1], ARGV[2], {{'sign', 'sign', ARGV[3], ''}}, true)
return 1
