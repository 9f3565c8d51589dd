-- Take messages: what dead workers had begun, from the lists that a waiting worker is handed messages into, and from
-- the queues, the most urgent first.  Each is recorded as this worker's before it is returned.  What was handed over
-- and is too much goes back to the head of its queue, for others.
--
-- KEYS: unacked hash, begun set, the handed lists, the lists of the queues, and as many inboxes, one of each of these.
-- ARGV: limit, how many of them begin, the number of the last tag, how many handed lists there are, and of each of
-- these the list it stands for.
-- Returns {tag, list, times it was lost, begun before, envelope, ...}.

local unacked, begun = KEYS[1], KEYS[2]
local left, begins, tag, handed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local lists = (#KEYS - 2 - handed) / 2
local found, entries, marks = {}, {}, {}

local function take(key, lost, before, raw)
  tag = tag + 1
  left = left - 1
  local name = string.format('%d', tag)
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

local inboxes = {}
for n = 3 + handed + lists, #KEYS do inboxes[#inboxes + 1] = KEYS[n] end
if #inboxes > 0 and redis.call('EXISTS', unpack(inboxes)) > 0 then
  for _, inbox in ipairs(inboxes) do
    all('LPOP', inbox, function(entry)
      local lost, before, key, raw = string.match(entry, '^(%d+) (%d) ([^\n]*)\n(.*)$')
      take(key, lost, before, raw)
    end)
  end
end
for n = 1, handed do
  local key, list = ARGV[4 + n], KEYS[2 + n]
  all('RPOP', list, function(raw) take(key, '0', '0', raw) end)
  while left <= 0 and redis.call('LMOVE', list, key, 'LEFT', 'RIGHT') do end
end
for n = 3 + handed, 2 + handed + lists do
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
