-- Return what a take took whose reply was lost.
--
-- KEYS: unacked hash, begun set.
-- ARGV: limit, how many of them begin, the tags it may have used, in order.
-- Returns what the take would have returned: {tag, list, times it was lost, begun before, envelope, ...}.

local limit, begins = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {}
local count = 0
for n = 3, #ARGV do
  if count >= limit then break end
  local entry = redis.call('HGET', KEYS[1], ARGV[n])
  if entry then
    count = count + 1
    redis.call(count <= begins and 'SADD' or 'SREM', KEYS[2], ARGV[n])
    local lost, before, key, raw = string.match(entry, '^(%d+) (%d) ([^\n]*)\n(.*)$')
    local at = #found
    found[at + 1], found[at + 2], found[at + 3], found[at + 4], found[at + 5] = ARGV[n], key, lost, before, raw
  end
end
return found
