#!lua
-- Make an accepted message durable, due for signing, and wake the sign role: all or nothing, and the same again
-- when the client of Redis repeats it because it never saw the answer.
-- KEYS: message, sign queue, content list
-- ARGV: queue-id, envelope, sha256, seal, size, number of chunks, content, broker db, wake ttl ms, wake-up
-- Returns 1, or 0 when it is or was there already. Reads nothing of what it writes.
if redis.call('EXISTS', DONE .. ARGV[1]) == 1 then return 0 end
if redis.call('HSETNX', KEYS[1], 'version', @DATA_VERSION@) == 0 then return 0 end
if tonumber(ARGV[6]) > 0 and redis.call('PERSIST', KEYS[3]) == 0 then
  redis.call('DEL', KEYS[1])
  return redis.error_reply('PTT the uploaded chunks are gone')
end
redis.call('HSET', KEYS[1], 'envelope', ARGV[2], 'sha256', ARGV[3], 'seal', ARGV[4], 'size', ARGV[5],
  'chunks', ARGV[6], 'content', ARGV[7], 'accepted', now)
redis.call('ZADD', KEYS[2], now, ARGV[1])
push_wakeups(ARGV[8], ARGV[9], {{'sign', 'sign', ARGV[10], ''}})
return 1
