-- Write down a batch of steps: each of them as a whole, or not at all.
--
-- KEYS: the worker's unacked hash and its set of begun tags; both empty texts for steps of no delivery.
-- ARGV: written by nbcanvas/backend/redis/steps.py, in the order in which they are read here.
-- Returns an answer for each step: a number; for a task that may not begin, the document that says why; for a step that
-- filled a barrier {number, arrival, probe, trouble, group's meta or false, part, part, ...}.

local place = 0
local function word()
  place = place + 1
  return ARGV[place]
end
local function number()
  place = place + 1
  return tonumber(ARGV[place])
end

local LOST, DONE, SETTLED, DISPATCHED = 0, 1, 2, 3
local OURS = 'nbcanvas'

local unacked, begun = KEYS[1], KEYS[2]
local tasks, groups, marks, news = word(), word(), word(), word()
local ordered, parts_for, claim_for, done_for = word() == '1', number(), number(), number()
local steps = number()

-- The state in a task's document, whatever serializer wrote it: it stands at its beginning, and custom ones may begin as
-- those here do.
local final = {SUCCESS = true, FAILURE = true, REVOKED = true, IGNORED = true, REJECTED = true}

local function state_of(task)
  local document = redis.pcall('GET', tasks .. task)
  if type(document) ~= 'string' then return nil end
  local head = string.sub(document, 1, 256)
  return string.match(head, '"status"%s*:%s*"([^"]*)"') -- JSON
    or string.match(head, 'status[^%a]*(%u[%w_-]*)') -- YAML, msgpack, pickles
    or string.match(head, 'status.-(%u[%u%d_-]+)') -- older pickles, with letters in between
end

local function store(task, document, expires, aloud)
  local key = tasks .. task
  if expires > 0 then
    redis.call('SET', key, document, 'EX', expires)
  else
    redis.call('SET', key, document)
  end
  if aloud then redis.call('PUBLISH', key, document) end
end

-- News for each client: lines, told in one message at the end.
local told = {}
local channels = {}
local function tell(channel, head, document)
  local lines = told[channel]
  if not lines then
    lines = {}
    told[channel] = lines
    channels[#channels + 1] = channel
  end
  lines[#lines + 1] = head
  lines[#lines + 1] = document
end

-- Slots of barriers, counted as Celery's workers count them.  What is known of a barrier is kept for the rest of the
-- batch: nobody else can change it meanwhile.
local touched = {}
local seen = {}
local function barrier(group)
  local known = seen[group]
  if not known then
    local p = groups .. group
    known = {
      parts = p .. '.j',
      arrived = p .. '.d',
      claim = redis.pcall('GET', p .. '.c'),
      size = redis.pcall('GET', p .. '.s'),
      more = redis.pcall('GET', p .. '.t'),
      count = redis.pcall(ordered and 'ZCARD' or 'LLEN', p .. '.j'),
    }
    seen[group] = known
  end
  return known
end

-- A claim of ours is taken over by the same slot of the same task, which another worker has got meanwhile; and by
-- whoever finds out that the barrier inside this one was dispatched (no task).
local function look(group, hint, task, index)
  local known = barrier(group)
  local claim = known.claim
  if claim == 'done' then return 'done' end
  if known.size == false and hint > 0 then
    known.size = tostring(hint)
    redis.call('SET', groups .. group .. '.s', known.size)
    touched[group] = true
  end
  if known.size == false then return 'open' end
  local size = type(known.size) == 'string' and tonumber(known.size)
  local more = known.more == false and 0 or (type(known.more) == 'string' and tonumber(known.more))
  local p, trouble = groups .. group, ''
  if not size then
    trouble = p .. '.s holds no number'
  elseif not more then
    trouble = p .. '.t holds no number'
  elseif type(known.count) ~= 'number' then
    trouble = p .. '.j holds no parts'
  elseif known.count < size + more then
    return 'open'
  end
  local token = task and OURS .. ':' .. task .. ':' .. index
  if type(claim) == 'string' and claim ~= token then
    if token or string.sub(claim, 1, #OURS) ~= OURS then return 'claimed' end
  end
  known.claim = token or OURS
  redis.call('SET', p .. '.c', known.claim, 'EX', claim_for)
  return 'full', trouble
end

local function arrive(group, task, index, value, hint)
  local known = barrier(group)
  if known.claim == 'done' then return 'done' end
  if redis.pcall('SADD', known.arrived, task .. ':' .. index) ~= 0 then
    if ordered then
      local added = redis.pcall('ZADD', known.parts, index, value)
      if type(known.count) == 'number' and type(added) == 'number' then known.count = known.count + added end
    else
      known.count = redis.pcall('RPUSH', known.parts, value)
    end
    touched[group] = true
  end
  return look(group, hint, task, index)
end

local function full(outcome, arrival, probe, group, trouble)
  local p = groups .. group
  local answer = {outcome, arrival, probe, trouble, redis.pcall('GET', p)}
  if type(answer[5]) ~= 'string' then answer[5] = false end
  local parts = redis.pcall(ordered and 'ZRANGE' or 'LRANGE', p .. '.j', 0, -1)
  if not parts.err then
    for n = 1, #parts do answer[5 + n] = parts[n] end
  end
  return answer
end

local function dispatchable(group)
  local p = groups .. group
  local claim = redis.pcall('GET', p .. '.c')
  if type(claim) == 'string' then return string.sub(claim, 1, #OURS) == OURS end
  return redis.call('EXISTS', p .. '.s') == 1
end

local function cleared(group)
  local p = groups .. group
  redis.call('DEL', p .. '.j', p .. '.t', p .. '.s', p .. '.d')
  redis.call('SET', p .. '.c', 'done', 'EX', done_for)
  touched[group], seen[group] = nil, nil
end

local acked = {}
local answers = {}

local function step()
  local tag, flags = word(), word()
  local task, attempt, state, expires, document = word(), number(), word(), number(), word()
  local channel, head = word(), word()
  local dispatches = word()
  local skipped = number()
  local claims = string.find(flags, 'c', 1, true)
  local over = claims and word()
  local latch = string.find(flags, 'l', 1, true)
  local outcome, performed = DONE, true
  local was, stands = nil, nil

  if tag ~= '' and redis.call('HEXISTS', unacked, tag) == 0 then
    outcome, performed = LOST, false
  elseif dispatches ~= '' and not dispatchable(dispatches) then
    outcome, performed = DISPATCHED, false
  elseif latch then
    was = state_of(task)
    if was == 'SUCCESS' or was == 'FAILURE' then
      outcome, performed = SETTLED, false
    else
      local mark = tonumber(redis.call('GET', marks .. task) or '')
      if mark and mark >= attempt then outcome, performed = SETTLED, false end
    end
  elseif claims then
    local found = state_of(task)
    if found == 'STARTED' or final[found or ''] then
      local there = redis.call('GET', tasks .. task)
      if final[found] or (there ~= over and there ~= document) then
        outcome, performed, stands = SETTLED, false, there
      end
    end
  elseif string.find(flags, 'u', 1, true) and final[state_of(task) or ''] then
    outcome, performed = SETTLED, false
  end

  if performed then
    if string.find(flags, 's', 1, true) then
      store(task, document, expires, true)
    end
    if string.find(flags, 'm', 1, true) then
      if expires > 0 then
        redis.call('SET', marks .. task, attempt, 'EX', expires)
      else
        redis.call('SET', marks .. task, attempt)
      end
    elseif latch and attempt > 0 then
      redis.call('DEL', marks .. task)
    end
    if channel ~= '' and head ~= '' then
      tell(channel, head, string.find(flags, 'd', 1, true) and document or '')
    end
  end

  -- What will not run: also behind a step that was settled alike by somebody who did no more than that.
  local skips = performed or (outcome == SETTLED and was ~= nil and was == state)
  for _ = 1, skipped do
    local id, seconds, text, line = word(), number(), word(), word()
    if skips and not final[state_of(id) or ''] then
      store(id, text, seconds, true)
      if channel ~= '' and line ~= '' then
        tell(channel, line, string.find(flags, 'D', 1, true) and text or '')
      end
    end
  end

  for _ = 1, number() do
    local group, size = word(), word()
    if performed then
      redis.call('DEL', groups .. group .. '.c')
      redis.call('SET', groups .. group .. '.s', size)
      touched[group], seen[group] = true, nil
    end
  end

  for _ = 1, number() do
    local key, raw = word(), word()
    if performed then redis.call('LPUSH', key, raw) end
  end

  local filled = nil
  local arrivals = number()
  for n = 1, arrivals do
    local group, id, index, value, hint = word(), word(), word(), word(), number()
    local found, trouble = nil, nil
    if outcome ~= LOST and outcome ~= DISPATCHED and not filled then
      found, trouble = arrive(group, id, index, value, hint)
      if found == 'full' then filled = full(outcome, n, 0, group, trouble) end
    end
    -- A barrier that was dispatched may have filled the one around it, and its worker died then.
    for m = 1, number() do
      local outer = word()
      if found == 'done' then
        found, trouble = look(outer, 0)
        if found == 'full' then filled = full(outcome, n, m, outer, trouble) end
      end
    end
  end

  if performed and dispatches ~= '' then cleared(dispatches) end
  if tag ~= '' and outcome ~= LOST and not filled and not string.find(flags, 'k', 1, true) then
    acked[#acked + 1] = tag
  end
  answers[#answers + 1] = filled or stands or outcome
end

for _ = 1, steps do step() end

for start = 1, #acked, 1000 do
  local last = math.min(start + 999, #acked)
  redis.call('HDEL', unacked, unpack(acked, start, last))
  redis.call('SREM', begun, unpack(acked, start, last))
end
if parts_for > 0 then
  for group in pairs(touched) do
    for _, suffix in ipairs({'.j', '.t', '.s', '.d', ''}) do
      redis.call('EXPIRE', groups .. group .. suffix, parts_for)
    end
  end
end
for _, channel in ipairs(channels) do
  redis.call('PUBLISH', news .. channel, table.concat(told[channel], '\n'))
end
return answers
