#!lua flags=allow-oom
-- A worker starts on a wake-up: from now on, new work pushes a new one. KEYS: none   ARGV: broker db, flag
redis.call('SELECT', ARGV[1])
return redis.call('DEL', WAKE .. ARGV[2])
