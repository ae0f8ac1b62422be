#!lua
-- Make an accepted message durable, due for signing, and wake the sign role: all or nothing, and the same again
-- when the client of Redis repeats it because it never saw the answer.
-- KEYS: message, sign queue, content list, same, counts; the last two if repeats are known or the user has limits
-- ARGV: queue-id, envelope, sha256, seal, size, number of chunks, content, broker db, wake ttl ms, wake-up,
--   when to release it (ms; 0: at once), lead of its priority ms, how long repeats are known ms (0: not);
--   of a user with limits: number of recipients, messages an hour, messages a day, recipients a day (0: no limit)
-- Returns 1; 0 when it is or was there already; the queue-id of the first of equal submissions; for who is over a limit:
-- {its number, ms to wait, what is left}.

-- Count a message; a window begins with the first message in it. Of several limits the one with the longest wait counts.
local function count(counts, recipients, limits)
  local found = redis.call('HMGET', counts, 'hour_ends', 'hour', 'day_ends', 'day', 'recipients')
  for index = 1, 5 do found[index] = tonumber(found[index] or 0) end
  local hour_ends, hour, day_ends, day, sent = unpack(found)
  if hour_ends <= now then hour_ends, hour = now + 3600000, 0 end
  if day_ends <= now then day_ends, day, sent = now + 86400000, 0, 0 end
  local ends, used, added = {hour_ends, day_ends, day_ends}, {hour, day, sent}, {1, 1, recipients}
  local over = nil
  for number = 1, 3 do
    local limit = tonumber(limits[number])
    if limit > 0 and used[number] + added[number] > limit and (not over or ends[number] - now > over[2]) then
      over = {number, ends[number] - now, limit - used[number]}
    end
  end
  if over then return over end
  redis.call('HSET', counts, 'hour_ends', hour_ends, 'hour', hour + 1, 'day_ends', day_ends, 'day', day + 1,
    'recipients', sent + recipients)
  redis.call('PEXPIRE', counts, math.max(hour_ends, day_ends) - now)
end

local same = KEYS[4]
local knows_repeats = tonumber(ARGV[13] or 0) > 0
local first = knows_repeats and redis.call('GET', same)
if first and first ~= ARGV[1] then
  redis.call('UNLINK', KEYS[3])
  -- The first one's client may have heard 451, but hears 250 now: it must not be taken back any more.
  if redis.call('HEXISTS', MESSAGE .. first, 'size') == 1 then redis.call('HSET', MESSAGE .. first, 'kept', 1) end
  return first
end
if redis.call('EXISTS', DONE .. ARGV[1]) == 1 then return 0 end
if redis.call('HSETNX', KEYS[1], 'version', @DATA_VERSION@) == 0 then return 0 end
if tonumber(ARGV[6]) > 0 and redis.call('PERSIST', KEYS[3]) == 0 then
  redis.call('DEL', KEYS[1])
  return redis.error_reply('PTT the uploaded chunks are gone')
end
if ARGV[14] then
  local over = count(KEYS[5], tonumber(ARGV[14]), {ARGV[15], ARGV[16], ARGV[17]})
  if over then
    redis.call('UNLINK', KEYS[1], KEYS[3])
    return over
  end
end
redis.call('HSET', KEYS[1], 'envelope', ARGV[2], 'sha256', ARGV[3], 'seal', ARGV[4], 'size', ARGV[5],
  'chunks', ARGV[6], 'accepted', now)
keep_content(KEYS[1], ARGV[7])
if knows_repeats then redis.call('SET', same, ARGV[1], 'PX', ARGV[13]) end
if tonumber(ARGV[11] or 0) > now then
  redis.call('ZADD', KEYS[2], ARGV[11], ARGV[1]) -- held; the sweep wakes the sign role when its time has come
  return 1
end
redis.call('ZADD', KEYS[2], now - ARGV[12], ARGV[1])
push_wakeups(ARGV[8], ARGV[9], {{'sign', 'sign', ARGV[10], ''}})
return 1
