#!lua flags=allow-oom
-- Make what waits due now, and wake its role.
-- KEYS: state, queue, events, destinations
-- ARGV: queue-id, destination (empty: not signed yet), owner, reason (fields), who (empty: no event), most events,
--   broker db, wake ttl ms, flag, list, wake-up
-- Returns what came of it: due, busy (a worker has it), aside (held or parked), gone.
if not is_there(KEYS[1], ARGV[2]) then return 'gone' end
if redis.call('HEXISTS', KEYS[1], ARGV[4]) == 1 then return 'aside' end
if is_owned(KEYS[1], ARGV[3], KEYS[2], ARGV[1]) then return 'busy' end
redis.call('ZADD', KEYS[2], now, ARGV[1])
if is_destination(ARGV[2]) then
  redis.call('DEL', BACKOFF .. ARGV[2]) -- whoever asks for it knows better than the last failure
  redis.call('ZADD', KEYS[4], 'LT', now, ARGV[2])
end
if ARGV[5] ~= '' then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'queue_id', ARGV[1], 'destination', ARGV[2],
    'event', 'recipient.retried', 'by', ARGV[5])
end
push_wakeups(ARGV[7], ARGV[8], {{ARGV[9], ARGV[10], ARGV[11], ARGV[2]}})
return 'due'
