#!lua flags=allow-oom
-- Park a message at one destination that the relay role cannot read: its version is unknown, or its envelope is none.
-- KEYS: delivery, queue, parked, events   ARGV: queue-id, destination, token, reason, most events
-- Returns 1; 0 when the lease is lost.
local destination = ARGV[2]
if redis.call('HGET', KEYS[1], 'o:' .. destination) ~= ARGV[3] then return 0 end
redis.call('HDEL', KEYS[1], 'o:' .. destination, 'k:' .. destination, 'w:' .. destination)
redis.call('HSET', KEYS[1], 'p:' .. destination, ARGV[4])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1] .. ' ' .. destination)
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[5], '*',
  'queue_id', ARGV[1], 'destination', destination, 'event', 'recipient.parked', 'reason', ARGV[4])
return 1
