#!lua flags=allow-oom
-- Wake the relay role for all that is past due: a retry time that came, a wake-up that was lost, a lease that ended.
-- Any number of workers may run it at any time.
-- KEYS: destinations   ARGV: broker db, wake ttl ms, wake-up, look again ms, limit
-- Returns how many queues were past due.
local wakeups = {}
for _, destination in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[5])) do
  if redis.call('EXISTS', PREFIX .. 'q:' .. destination) == 1 then
    redis.call('ZADD', KEYS[1], now + ARGV[4], destination)
    wakeups[#wakeups + 1] = {'relay:' .. destination, 'relay', ARGV[3], destination}
  else
    redis.call('ZREM', KEYS[1], destination)
  end
end
push_wakeups(ARGV[1], ARGV[2], wakeups, true)
return #wakeups
