#!lua flags=allow-oom
-- Wake the roles for all that is past due: a retry time that came, a wake-up that was lost, a lease that ended.
-- Any number of workers may run it at any time.
-- KEYS: sign queue, destinations, reports   ARGV: broker db, wake ttl ms, sign wake-up, relay wake-up, look again ms, limit
-- Returns how many queues were past due.
local wakeups = {}
if #redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1) > 0
  or #redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1) > 0 then
  wakeups[1] = {'sign', 'sign', ARGV[3], ''}
end
for _, destination in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[6])) do
  if redis.call('EXISTS', PREFIX .. 'q:' .. destination) == 1 then
    redis.call('ZADD', KEYS[2], now + ARGV[5], destination)
    wakeups[#wakeups + 1] = {'relay:' .. destination, 'relay', ARGV[4], destination}
  else
    redis.call('ZREM', KEYS[2], destination)
  end
end
push_wakeups(ARGV[1], ARGV[2], wakeups)
return #wakeups
