#!lua flags=allow-oom
-- May this network have a guess at this login checked? If so, count it as wrong until `welcome` says better.
-- KEYS: known mark, guesses of the login from this known network, guesses of the network, number of guesses at the login
-- ARGV: guesses a window, window (ms), guesses at a login, their window (ms)
-- Returns the trust (0 known, 1 fresh, 2 suspect) and the stamp of the guess, or -1.
local is_known = redis.call('EXISTS', KEYS[1]) == 1
local list = is_known and KEYS[2] or KEYS[3]
local stamp = string.format('%.0f', time[1] * 1000000 + time[2])
local oldest = redis.call('LINDEX', list, ARGV[1] - 1)
if oldest and stamp - oldest < ARGV[2] * 1000 then return {-1, ''} end
local trust = 0
if not is_known then
  trust = redis.call('EXISTS', list) == 1 and 2 or 1
  if trust == 2 and tonumber(redis.call('GET', KEYS[4]) or 0) >= tonumber(ARGV[3]) then return {-1, ''} end
  if redis.call('INCR', KEYS[4]) == 1 then redis.call('PEXPIRE', KEYS[4], ARGV[4]) end
end
redis.call('LPUSH', list, stamp)
redis.call('LTRIM', list, 0, ARGV[1] - 1)
redis.call('PEXPIRE', list, ARGV[2])
return {trust, stamp}
