-- Record that tasks begin, or that they do not after all; those of messages that are this worker's.
--
-- KEYS: unacked hash, begun set.
-- ARGV: 1 or 0, tags.
-- Returns the tags that are not this worker's any more.

local command = ARGV[1] == '1' and 'SADD' or 'SREM'
local gone = {}
for n = 2, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[n]) == 1 then
    redis.call(command, KEYS[2], ARGV[n])
  else
    gone[#gone + 1] = ARGV[n]
  end
end
return gone
