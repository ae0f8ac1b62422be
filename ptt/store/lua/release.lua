#!lua flags=allow-oom
-- Make what is held or parked due now, and wake its role.
-- KEYS: state, queue, parked, events, destinations
-- ARGV: queue-id, destination (empty: not signed yet), reason, held, wanted, claims (fields), who, most events,
--   broker db, wake ttl ms, flag, list, wake-up
-- Returns what came of it: released, unwanted (a worker has it, and will not hold it), free, gone.
if not is_there(KEYS[1], ARGV[2]) then
  redis.call('ZREM', KEYS[3], ARGV[1] .. ' ' .. ARGV[2])
  return 'gone'
end
local result = 'released'
if redis.call('HDEL', KEYS[1], ARGV[5]) == 1 then
  result = 'unwanted'
elseif redis.call('HDEL', KEYS[1], ARGV[3]) == 0 then
  return 'free'
end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[8], '*', 'queue_id', ARGV[1], 'destination', ARGV[2],
  'event', 'recipient.released', 'by', ARGV[7])
if result == 'unwanted' then return result end
redis.call('HDEL', KEYS[1], ARGV[4], ARGV[6])
redis.call('ZREM', KEYS[3], ARGV[1] .. ' ' .. ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
if is_destination(ARGV[2]) then
  redis.call('DEL', BACKOFF .. ARGV[2]) -- whoever asks for it knows better than the last failure
  redis.call('ZADD', KEYS[5], 'LT', now, ARGV[2])
end
push_wakeups(ARGV[9], ARGV[10], {{ARGV[11], ARGV[12], ARGV[13], ARGV[2]}})
return result
