#!lua flags=allow-oom
-- Queue a signed report, and forget the outcomes that it tells of, and the message if nothing else is left of it.
-- KEYS: delivery, reports, message of the report, its delivery, its queue, destinations
-- ARGV: queue-id, token, number of the last record that is reported, queue-id of the report, its envelope, sha256, seal,
--   size, content, signature fields, destination, recipients, broker db, wake ttl ms, wake-up,
--   lead of its priority ms
-- Returns 2 when the message is done; 1 recorded; 0 another worker owns it; -1 nobody does: it was recorded before.
local owner = redis.call('HGET', KEYS[1], 'report_owner')
if owner ~= ARGV[2] then return owner and 0 or -1 end
local id, destination, last = ARGV[4], ARGV[11], tonumber(ARGV[3])
local reported, recorded = unpack(redis.call('HMGET', KEYS[1], 'reported', 'recorded'))
redis.call('HDEL', KEYS[1], 'report_owner', 'report_claims')
for number = (reported or 0) + 1, last do redis.call('HDEL', KEYS[1], 'd:' .. number) end
redis.call('HSET', KEYS[1], 'reported', last)
local result, wakeups = 1, {}
if tonumber(recorded) > last then
  redis.call('ZADD', KEYS[2], now, ARGV[1]) -- more was recorded meanwhile: that makes a report of its own
else
  redis.call('ZREM', KEYS[2], ARGV[1])
  if redis.call('HINCRBY', KEYS[1], 'open', -1) <= 0 then
    forget(ARGV[1])
    result = 2
  end
end
-- The queue-id follows from the message and the outcomes: the same report is never there twice.
if redis.call('HSETNX', KEYS[3], 'version', @DATA_VERSION@) == 1 then
  redis.call('HSET', KEYS[3], 'envelope', ARGV[5], 'sha256', ARGV[6], 'seal', ARGV[7], 'size', ARGV[8], 'chunks', 0,
    'signature', ARGV[10], 'accepted', now)
  keep_content(KEYS[3], ARGV[9])
  redis.call('HSET', KEYS[4], 'open', 1, 'r:' .. destination, ARGV[12])
  redis.call('ZADD', KEYS[5], now - ARGV[16], id)
  if not look_at(KEYS[6], destination, now) then
    wakeups[1] = {'relay:' .. destination, 'relay', ARGV[15], destination}
  end
end
push_wakeups(ARGV[13], ARGV[14], wakeups)
return result
