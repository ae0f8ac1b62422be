#!lua flags=allow-oom
-- Give up on what is to be reported of a message, because a person says so: its sender is told nothing more of it.
-- KEYS: delivery, reports, parked, events   ARGV: queue-id, who, most events
-- Returns what came of it: done (the message is gone), failed, busy (a worker has it), gone.
local reported, recorded = unpack(redis.call('HMGET', KEYS[1], 'reported', 'recorded'))
if not recorded or recorded == reported then return 'gone' end
if is_owned(KEYS[1], 'report_owner', KEYS[2], ARGV[1]) then return 'busy' end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'queue_id', ARGV[1], 'event', 'dsn.dropped', 'by', ARGV[2])
for number = (reported or 0) + 1, recorded do redis.call('HDEL', KEYS[1], 'd:' .. number) end
redis.call('HSET', KEYS[1], 'reported', recorded)
redis.call('HDEL', KEYS[1], 'report_owner', 'report_claims', 'report_parked', 'report_newest', 'h:!report')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1] .. ' !report')
if redis.call('HINCRBY', KEYS[1], 'open', -1) > 0 then return 'failed' end
forget(ARGV[1])
return 'done'
