-- Say that a worker lives, and give what workers had that do not to whoever takes from the same lists: what had not
-- begun goes back to the head of its list, what had begun into the list's inbox, with what is known of it.
--
-- Whoever has not beaten for a while is taken for dead, by the server's clock, and only by a worker that has itself
-- beaten without a pause as long: after the server was away everybody has been silent, and nobody is dead.
--
-- KEYS: the workers (their last beats).
-- ARGV: worker, seconds of silence, seconds until a dead one is forgotten, how many messages to look at, the prefixes
-- of unacked hashes, begun sets, inboxes and handed lists, the queues' names, the lists it ever took from, the host's
-- facts, and the lists it takes from.
-- Returns how many messages it gave back; when that is as many as it should look at, there may be more.

local workers = KEYS[1]
local me, silence, forget, budget = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local unackeds, beguns, inboxes, handeds = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local queues, ever, facts = ARGV[9], ARGV[10], ARGV[11]

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local mine = {}
for n = 12, #ARGV do mine[ARGV[n]] = true end

local last = tonumber(redis.call('ZSCORE', workers, me) or '0')
local facts_key = workers .. ':' .. me
local since = tonumber(redis.call('HGET', facts_key, 'since') or '0')
if now - last > silence / 2 or now < last then since = now end
redis.call('ZADD', workers, string.format('%.6f', now), me)
redis.call('HSET', facts_key, 'since', string.format('%.6f', since), 'queues', queues, 'lists', ever, 'facts', facts)
if now - since < silence then return 0 end

local given = 0

-- A portion of what a dead worker had taken; the next one goes on where this one ended.
local function unacked(dead)
  local theirs, facts_of = unackeds .. dead, workers .. ':' .. dead
  local reply = redis.call('HSCAN', theirs, redis.call('HGET', facts_of, 'cursor') or '0', 'COUNT', budget)
  redis.call('HSET', facts_of, 'cursor', reply[1])
  local entries = reply[2]
  local tags, of = {}, {}
  for n = 1, #entries, 2 do
    if not of[entries[n]] then tags[#tags + 1] = entries[n] end
    of[entries[n]] = entries[n + 1]
  end
  table.sort(tags, function(one, other) return tonumber(one) > tonumber(other) end)  -- the first taken is given last
  for _, tag in ipairs(tags) do
    local lost, before, key, raw = string.match(of[tag], '^(%d+) (%d) ([^\n]*)\n(.*)$')
    if mine[key] then
      local began = redis.call('SREM', beguns .. dead, tag) == 1
      if began then
        redis.call('LPUSH', inboxes .. key, string.format('%d', tonumber(lost) + 1) .. ' 1 ' .. key .. '\n' .. raw)
      elseif lost ~= '0' or before ~= '0' then
        redis.call('LPUSH', inboxes .. key, of[tag])
      else
        redis.call('RPUSH', key, raw)
      end
      redis.call('HDEL', theirs, tag)
      given = given + 1
    end
  end
  budget = budget - #tags
end

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', workers, '-inf', string.format('%.6f', now - silence))) do
  if budget <= 0 then break end
  local lists = redis.call('HGET', workers .. ':' .. dead, 'lists')
  local shared = not lists
  local waiting = 0
  for key in string.gmatch(lists or '', '[^\n]+') do
    local list = handeds .. dead .. ':' .. key
    if mine[key] then
      shared = true
      while redis.call('LMOVE', list, key, 'LEFT', 'RIGHT') do given = given + 1 end
    else
      waiting = waiting + redis.call('LLEN', list)
    end
  end
  if shared then unacked(dead) end
  if waiting == 0 and redis.call('EXISTS', unackeds .. dead) == 0 then
    redis.call('DEL', beguns .. dead)
    if now - tonumber(redis.call('ZSCORE', workers, dead)) > forget then
      redis.call('ZREM', workers, dead)
      redis.call('DEL', workers .. ':' .. dead)
    end
  end
end
return given
