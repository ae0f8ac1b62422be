#!lua flags=allow-oom
-- A guess was right, or was never checked: take it out of the count. If it was right, remember the network as known.
-- KEYS: as for guess   ARGV: stamp, how long the network is known (ms), 0 if the guess was not checked
redis.call('LREM', KEYS[2], 1, ARGV[1])
if redis.call('LREM', KEYS[3], 1, ARGV[1]) == 1 and tonumber(redis.call('GET', KEYS[4]) or 0) > 0 then
  redis.call('DECR', KEYS[4])
end
if ARGV[2] ~= '0' and redis.call('PTTL', KEYS[1]) < ARGV[2] / 2 then redis.call('SET', KEYS[1], 1, 'PX', ARGV[2]) end
return 1
