-- Keeps revoked ids, or stamps, for workers that are not there now.
--
-- KEYS[1]  a sorted set: what was revoked -> when, in seconds of this server's clock
-- ARGV[1]  how many seconds it is kept
-- ARGV[2]  how many are kept
-- ARGV[3…] what is revoked
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
for at = 3, #ARGV do
  redis.call('ZADD', KEYS[1], now, ARGV[at])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 0
