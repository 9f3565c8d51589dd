-- Take messages: from the worker's inbox (what dead workers had), from the lists that a waiting worker is handed
-- messages into, and from the queues, the most urgent first.  Each is recorded as this worker's before it is returned.
--
-- KEYS: unacked hash, begun set, inbox, the handed lists, the lists of the queues.
-- ARGV: limit, how many of them begin, the number of the last tag, how many handed lists there are, and of each of
-- these the list it stands for.
-- Returns {tag, list, times it was lost, begun before, envelope, ...}.

local unacked, begun, inbox = KEYS[1], KEYS[2], KEYS[3]
local left, begins, tag, handed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local found, entries, marks = {}, {}, {}

local function take(key, lost, before, raw)
  tag = tag + 1
  left = left - 1
  local name = tostring(tag)
  entries[#entries + 1] = name
  entries[#entries + 1] = lost .. ' ' .. before .. ' ' .. key .. '\n' .. raw
  if begins > 0 then
    begins = begins - 1
    marks[#marks + 1] = name
  end
  local n = #found
  found[n + 1], found[n + 2], found[n + 3], found[n + 4], found[n + 5] = name, key, lost, before, raw
end

local function all(command, list, how)
  while left > 0 do
    local raws = redis.call(command, list, math.min(left, 500))
    if not raws or #raws == 0 then return end
    for n = 1, #raws do how(raws[n]) end
  end
end

all('LPOP', inbox, function(entry)
  local lost, before, key, raw = string.match(entry, '^(%d+) (%d) ([^\n]*)\n(.*)$')
  take(key, lost, before, raw)
end)
for n = 1, handed do
  local key = ARGV[4 + n]
  all('RPOP', KEYS[3 + n], function(raw) take(key, '0', '0', raw) end)
end
for n = 4 + handed, #KEYS do
  local key = KEYS[n]
  if left <= 0 then break end
  all('RPOP', key, function(raw) take(key, '0', '0', raw) end)
end

for first = 1, #entries, 1000 do
  redis.call('HSET', unacked, unpack(entries, first, math.min(first + 999, #entries)))
end
for first = 1, #marks, 1000 do
  redis.call('SADD', begun, unpack(marks, first, math.min(first + 999, #marks)))
end
return found
