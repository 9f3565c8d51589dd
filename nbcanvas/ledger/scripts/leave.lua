-- Give everything back that a worker has, and forget it.
--
-- KEYS: the workers, unacked hash, begun set, the handed lists.
-- ARGV: worker, and of each handed list the list it stands for.
-- Returns how many messages were given back.

local count = 0

-- What has begun, or was lost before, is left to another worker, with what is known of it.
local entries = redis.call('HGETALL', KEYS[2])
local left = 0
for n = 1, #entries, 2 do
  local lost, before, key, raw = string.match(entries[n + 1], '^(%d+) (%d) ([^\n]*)\n(.*)$')
  if lost == '0' and redis.call('SISMEMBER', KEYS[3], entries[n]) == 0 then
    redis.call('RPUSH', key, raw)
    redis.call('HDEL', KEYS[2], entries[n])
    count = count + 1
  else
    left = left + 1
  end
end
for n = 4, #KEYS do
  while redis.call('LMOVE', KEYS[n], ARGV[n - 2], 'LEFT', 'RIGHT') do count = count + 1 end
end
if left == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[1] .. ':' .. ARGV[1], KEYS[3])
else
  redis.call('ZADD', KEYS[1], 0, ARGV[1])
end
return count
