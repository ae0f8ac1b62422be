#!lua flags=allow-oom
-- Take back a claim of a relay worker whose answer was lost, and have the destination looked at.
-- KEYS: queue, destinations, backoff   ARGV: destination, token, lease ms, may it have been the probe (0/1)
-- Returns how many messages it was given.
local destination = ARGV[1]
local count = unclaim(KEYS[1], DELIVERY, 'o:' .. destination, 'k:' .. destination, ARGV[2], ARGV[3])
if count > 0 then
  if ARGV[4] == '1' and redis.call('HGET', KEYS[3], 'failures') then redis.call('HSET', KEYS[3], 'until', now) end
  look_at(KEYS[2], destination, now)
end
return count
