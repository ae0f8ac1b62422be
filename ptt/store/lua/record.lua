#!lua flags=allow-oom
-- Record what became of one attempt at one destination, and forget the message with its last recipient.
-- KEYS: delivery, queue, destinations, events, parked, reports, backoff
-- ARGV: queue-id, destination, token, recipients left (empty: none), delay ms, attempt counts (0/1), history, most events,
--   why to hold what is left (empty: try again), number of the attempt, its duration ms, reverse-path, newest reason,
--   how long the destination backs off ms (0: it was reached; empty: nobody knows), failures of it as they were claimed,
--   is that a whole step of it (0/1), is it late (0/1);
--   and if there is something to report: ms until the report is made, how many of the records are delay notices, records
-- Returns 4 when the destination backs off from now on and the message is done; 3 when it backs off; 2 when the message is
--   done; 1 recorded; 0 another worker owns it; -1 nobody does: it was recorded before, by this worker or another.
local destination = ARGV[2]
local owner = redis.call('HGET', KEYS[1], 'o:' .. destination)
if owner ~= ARGV[3] then return owner and 0 or -1 end
redis.call('HDEL', KEYS[1], 'o:' .. destination, 'k:' .. destination, 'x:' .. destination)
if ARGV[7] ~= '' then
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[8], '*', 'queue_id', ARGV[1], 'destination', destination,
    'event', 'attempt', 'attempt', ARGV[10], 'duration_ms', ARGV[11], 'reverse_path', ARGV[12], 'outcomes', ARGV[7])
end
-- A delay is told once for each destination, however often it is tried.
local is_told = ARGV[17] == '1' and redis.call('HSETNX', KEYS[1], 'n:' .. destination, 1) == 0
if #ARGV > 17 then
  note_outcomes(KEYS[1], KEYS[6], ARGV[1], ARGV[18], {unpack(ARGV, is_told and 20 + ARGV[19] or 20)})
end
local result = 1
if ARGV[14] == '0' then
  -- Reached: all that waited for this destination is looked at again.
  if redis.call('DEL', KEYS[7]) == 1 then redis.call('ZADD', KEYS[3], 'LT', now, destination) end
elseif ARGV[14] ~= '' and tonumber(redis.call('HGET', KEYS[7], 'failures') or 0) == tonumber(ARGV[15]) then
  -- The first to find it out since it was claimed: those that were in hand with it change nothing.
  redis.call('HSET', KEYS[7], 'until', now + ARGV[14], 'failures', math.max(1, ARGV[15] + ARGV[16]), 'reason', ARGV[13])
  redis.call('HSETNX', KEYS[7], 'since', now)
  redis.call('PEXPIRE', KEYS[7], ARGV[14] + @BACKOFF_TTL_MS@)
  result = 3
elseif ARGV[14] == '' and ARGV[15] ~= '0' and redis.call('HGET', KEYS[7], 'failures') == ARGV[15] then
  -- The probe has found nothing out: the next one is due.
  redis.call('HSET', KEYS[7], 'until', now)
  redis.call('ZADD', KEYS[3], 'LT', now, destination)
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'r:' .. destination, ARGV[4])
  if ARGV[13] ~= '' then redis.call('HSET', KEYS[1], 'l:' .. destination, ARGV[13]) end
  redis.call('HINCRBY', KEYS[1], 'a:' .. destination, ARGV[6])
  -- A person may have asked for a hold while the worker had it.
  local hold = ARGV[9] ~= '' and ARGV[9] or redis.call('HGET', KEYS[1], 'w:' .. destination)
  if hold then
    redis.call('HDEL', KEYS[1], 'w:' .. destination)
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('HSET', KEYS[1], 'p:' .. destination, hold, 'h:' .. destination, 1)
    redis.call('ZADD', KEYS[5], now, ARGV[1] .. ' ' .. destination)
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[8], '*',
      'queue_id', ARGV[1], 'destination', destination, 'event', 'recipient.held', 'reason', hold)
    return result
  end
  redis.call('ZADD', KEYS[2], now + ARGV[5], ARGV[1])
  if result == 3 then
    schedule(KEYS[2], KEYS[3], destination, now + ARGV[14])
  else
    look_at(KEYS[3], destination, now + ARGV[5])
  end
  return result
end
redis.call('HDEL', KEYS[1], 'r:' .. destination, 'a:' .. destination, 'l:' .. destination, 'w:' .. destination)
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[3], destination) end
if redis.call('HINCRBY', KEYS[1], 'open', -1) > 0 then return result end
forget(ARGV[1])
return result == 3 and 4 or 2
