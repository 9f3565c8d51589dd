-- Give messages back to the heads of their lists.
--
-- KEYS: unacked hash, begun set.
-- ARGV: tag, list, envelope, ...
-- Returns how many were this worker's.

local count = 0
for n = 1, #ARGV, 3 do
  local tag, list, raw = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  if redis.call('HDEL', KEYS[1], tag) == 1 then
    redis.call('SREM', KEYS[2], tag)
    redis.call('RPUSH', list, raw)
    count = count + 1
  end
end
return count
