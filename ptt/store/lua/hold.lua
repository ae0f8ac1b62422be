#!lua flags=allow-oom
-- Set a message aside at one destination, or as a whole before it is signed, because a person says so.
-- KEYS: state, queue, parked, events
-- ARGV: queue-id, destination (empty: not signed yet), owner, reason, held, wanted (fields), why, who, most events
-- Returns what came of it: held, wanted (a worker has it: when it gives it back), busy, already, gone.
if not is_there(KEYS[1], ARGV[2]) then return 'gone' end
if redis.call('HEXISTS', KEYS[1], ARGV[4]) == 1 then return 'already' end
local result = 'held'
if is_owned(KEYS[1], ARGV[3], KEYS[2], ARGV[1]) then
  if not is_destination(ARGV[2]) then return 'busy' end
  redis.call('HSET', KEYS[1], ARGV[6], ARGV[7])
  result = 'wanted'
else
  redis.call('HDEL', KEYS[1], ARGV[3], ARGV[6])
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HSET', KEYS[1], ARGV[4], ARGV[7], ARGV[5], 1)
  redis.call('ZADD', KEYS[3], now, ARGV[1] .. ' ' .. ARGV[2])
end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[9], '*', 'queue_id', ARGV[1], 'destination', ARGV[2],
  'event', result == 'held' and 'recipient.held' or 'hold.wanted', 'reason', ARGV[7], 'by', ARGV[8])
return result
