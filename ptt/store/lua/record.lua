#!lua flags=allow-oom
-- Record what became of one attempt at one destination, and forget the message with its last recipient.
-- KEYS: message, queue, destinations, content, events, parked, reports
-- ARGV: queue-id, destination, token, recipients left (empty: none), delay ms, attempt counts (0/1), history, most events,
--   why to park what is left (empty: try again); and if there is something to report: ms until the report is made,
--   how many of the records are delay notices, records
-- Returns 2 when the message is done; 1 recorded; 0 another worker owns it; -1 nobody does: it was recorded before.
local destination = ARGV[2]
local owner = redis.call('HGET', KEYS[1], 'o:' .. destination)
if owner ~= ARGV[3] then return owner and 0 or -1 end
redis.call('HDEL', KEYS[1], 'o:' .. destination, 'k:' .. destination, 'x:' .. destination)
if ARGV[7] ~= '' then
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[8], '*', 'queue_id', ARGV[1], 'destination', destination,
    'event', 'attempt', 'outcomes', ARGV[7])
end
if #ARGV > 9 then
  -- A delay is told once for each destination, however often it is tried.
  local first = 12
  if ARGV[11] ~= '0' and redis.call('HSETNX', KEYS[1], 'w:' .. destination, 1) == 0 then first = 12 + ARGV[11] end
  for index = first, #ARGV do
    local number = redis.call('HINCRBY', KEYS[1], 'recorded', 1)
    redis.call('HSET', KEYS[1], 'd:' .. number, string.format('%.0f ', now) .. ARGV[index])
  end
  -- What waits for its report keeps the message alive like a destination; once, and no more while it is parked.
  if first <= #ARGV and redis.call('HEXISTS', KEYS[1], 'report_parked') == 0
    and redis.call('ZADD', KEYS[7], 'NX', now + ARGV[10], ARGV[1]) == 1 then
    redis.call('HINCRBY', KEYS[1], 'open', 1)
  end
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'r:' .. destination, ARGV[4])
  redis.call('HINCRBY', KEYS[1], 'a:' .. destination, ARGV[6])
  if ARGV[9] ~= '' then
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('HSET', KEYS[1], 'p:' .. destination, ARGV[9])
    redis.call('ZADD', KEYS[6], now, ARGV[1] .. ' ' .. destination)
    return 1
  end
  redis.call('ZADD', KEYS[2], now + ARGV[5], ARGV[1])
  redis.call('ZADD', KEYS[3], 'LT', now + ARGV[5], destination)
  return 1
end
redis.call('HDEL', KEYS[1], 'r:' .. destination, 'a:' .. destination)
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[3], destination) end
if redis.call('HINCRBY', KEYS[1], 'open', -1) > 0 then return 1 end
redis.call('UNLINK', KEYS[1], KEYS[4])
return 2
