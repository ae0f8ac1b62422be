#!lua flags=allow-oom
-- Keep the signature fields, queue the message at each destination and wake the relay role.
-- KEYS: message, delivery, sign queue, destinations
-- ARGV: queue-id, token, signature fields, broker db, wake ttl ms, wake-up, lead of its priority ms,
--   {destination, recipients}...
-- Returns 1; 0 when the lease is lost.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'owner', 'claims', 'l:')
redis.call('HSET', KEYS[1], 'signature', ARGV[3])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[2], 'open', (#ARGV - 7) / 2)
local wakeups = {}
for index = 8, #ARGV, 2 do
  local destination = ARGV[index]
  redis.call('HSET', KEYS[2], 'r:' .. destination, ARGV[index + 1])
  redis.call('ZADD', PREFIX .. 'q:' .. destination, now - ARGV[7], ARGV[1])
  if not look_at(KEYS[4], destination, now) then
    wakeups[#wakeups + 1] = {'relay:' .. destination, 'relay', ARGV[6], destination}
  end
end
push_wakeups(ARGV[4], ARGV[5], wakeups)
return 1
