-- Say that a worker lives, and adopt what workers had that do not.
--
-- Whoever has not beaten for a while is taken for dead, by the server's clock, and only by a worker that has itself
-- beaten without a pause as long: after the server was away everybody has been silent, and nobody is dead.
--
-- KEYS: the workers (their last beats), and this worker's inbox.
-- ARGV: worker, seconds of silence, seconds until a dead one is forgotten, the prefixes of unacked hashes, begun sets,
-- inboxes and handed lists, the queues' names, the hosts' facts, how many lists it takes from, and these.
-- Returns how many messages it adopted.

local workers, inbox = KEYS[1], KEYS[2]
local me, silence, forget = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local unackeds, beguns, inboxes, handeds = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local queues, facts, lists = ARGV[8], ARGV[9], tonumber(ARGV[10])

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local mine, names = {}, {}
for n = 1, lists do
  local key = ARGV[10 + n]
  mine[key] = true
  names[n] = key
end

local last = tonumber(redis.call('ZSCORE', workers, me) or '0')
local facts_key = workers .. ':' .. me
local since = tonumber(redis.call('HGET', facts_key, 'since') or '0')
if now - last > silence / 2 or now < last then since = now end
redis.call('ZADD', workers, string.format('%.6f', now), me)
redis.call('HSET', facts_key, 'since', string.format('%.6f', since), 'queues', queues, 'lists', table.concat(names, '\n'),
  'facts', facts)
if now - since < silence then return 0 end

local adopted = 0
local function adopt(lost, before, key, raw)
  redis.call('RPUSH', inbox, lost .. ' ' .. before .. ' ' .. key .. '\n' .. raw)
  adopted = adopted + 1
end

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', workers, '-inf', string.format('%.6f', now - silence))) do
  local theirs = unackeds .. dead
  local entries = redis.call('HGETALL', theirs)
  local left = 0
  for n = 1, #entries, 2 do
    local tag, entry = entries[n], entries[n + 1]
    local lost, before, key, raw = string.match(entry, '^(%d+) (%d) ([^\n]*)\n(.*)$')
    if mine[key] then
      if redis.call('SISMEMBER', beguns .. dead, tag) == 1 then
        lost, before = tostring(tonumber(lost) + 1), '1'
      end
      adopt(lost, before, key, raw)
      redis.call('HDEL', theirs, tag)
    else
      left = left + 1
    end
  end
  local waiting = redis.call('LRANGE', inboxes .. dead, 0, -1)
  if #waiting > 0 then
    redis.call('DEL', inboxes .. dead)
    for _, entry in ipairs(waiting) do
      local lost, before, key, raw = string.match(entry, '^(%d+) (%d) ([^\n]*)\n(.*)$')
      if mine[key] then
        adopt(lost, before, key, raw)
      else
        redis.call('RPUSH', inboxes .. dead, entry)
        left = left + 1
      end
    end
  end
  for key in string.gmatch(redis.call('HGET', workers .. ':' .. dead, 'lists') or '', '[^\n]+') do
    local list = handeds .. dead .. ':' .. key
    if mine[key] then
      local raw = redis.call('RPOP', list)
      while raw do
        adopt('0', '0', key, raw)
        raw = redis.call('RPOP', list)
      end
    else
      left = left + redis.call('LLEN', list)
    end
  end
  local beat = tonumber(redis.call('ZSCORE', workers, dead))
  if left == 0 then
    redis.call('DEL', beguns .. dead)
    if now - beat > forget then
      redis.call('ZREM', workers, dead)
      redis.call('DEL', workers .. ':' .. dead)
    end
  end
end
return adopted
