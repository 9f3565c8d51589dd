-- Take what the server has handed over, and more from the list it comes from; nothing if nothing was handed over.
--
-- KEYS: unacked hash, begun set, the handed list, the list it stands for.
-- ARGV: limit, how many of them begin, the number of the last tag.
-- Returns what a take would: {tag, list, times it was lost, begun before, envelope, ...}.

local limit, begins, tag = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found, entries, marks = {}, {}, {}

local raws = redis.call('RPOP', KEYS[3], limit)
if not raws then return found end
if #raws < limit then
  for _, raw in ipairs(redis.call('RPOP', KEYS[4], limit - #raws) or {}) do raws[#raws + 1] = raw end
end
for n = 1, #raws do
  local name, at = string.format('%d', tag + n), #found
  entries[2 * n - 1], entries[2 * n] = name, '0 0 ' .. KEYS[4] .. '\n' .. raws[n]
  if n <= begins then marks[n] = name end
  found[at + 1], found[at + 2], found[at + 3], found[at + 4], found[at + 5] = name, KEYS[4], '0', '0', raws[n]
end
redis.call('HSET', KEYS[1], unpack(entries))
if #marks > 0 then redis.call('SADD', KEYS[2], unpack(marks)) end
return found
