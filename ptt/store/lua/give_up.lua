#!lua flags=allow-oom
-- Give up on who is left of a message at one destination, or on all of it before it is signed, because a person says so.
-- Whoever tells senders of failures does it here as in record.lua: the event holds the outcomes in the same form.
-- KEYS: state, queue, parked, events, destinations, reports
-- ARGV: queue-id, destination (empty: not signed yet), owner (field), recipients left as they were read, outcomes,
--   reverse-path, who, most events, ms until the report is made, how many records, what is to be reported..., fields to
--   delete...
-- Returns what came of it: done (the message is gone), failed, busy (a worker has it), changed (since it was read), gone.
local destination = ARGV[2]
if not is_there(KEYS[1], destination) then return 'gone' end
if is_owned(KEYS[1], ARGV[3], KEYS[2], ARGV[1]) then return 'busy' end
if destination ~= '' and redis.call('HGET', KEYS[1], 'r:' .. destination) ~= ARGV[4] then return 'changed' end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[8], '*', 'queue_id', ARGV[1], 'destination', destination,
  'event', 'recipient.failed', 'reverse_path', ARGV[6], 'outcomes', ARGV[5], 'by', ARGV[7])
local records = {unpack(ARGV, 11, 10 + ARGV[10])}
redis.call('HDEL', KEYS[1], ARGV[3], unpack(ARGV, 11 + #records))
note_outcomes(DELIVERY .. ARGV[1], KEYS[6], ARGV[1], ARGV[9], records)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1] .. ' ' .. destination)
if destination ~= '' then
  if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[5], destination) end
  if redis.call('HINCRBY', KEYS[1], 'open', -1) > 0 then return 'failed' end
elseif #records > 0 then
  redis.call('HSET', KEYS[1], 'signature', '') -- never signed any more: it only waits to be reported on
  return 'failed'
end
forget(ARGV[1])
return 'done'
