-- What is found of a chain, and how an instance is written: for commits, and for what comes from elsewhere. It stands
-- behind `common.lua`; `commit.lua` says what is in a chain.

-- How long a closed instance is kept in ms, or false. Each script says.
local ttl

local function violation(detail)
  error({ detail = detail })
end

-- What a chain finds: the instance as it is, and what has to be forgotten before the chain is written.
local function find(P, chain)
  local about = chain[1] .. ':' .. chain[2]
  local found = call('HMGET', P .. 'i:' .. about, 'head', 'asked')
  return { about = about, head = found[1] and cjson.decode(found[1]), asked = found[2] or nil, expired = {} }
end

-- Whether a chain that begins an instance finds its id and its place among the sessions free.
local function is_free(P, chain, found)
  local tenant, id, instance = chain[1], chain[3], chain[7]
  if not instance or found.head then
    return false
  end
  local absent = absence(P, tenant, id, ttl)
  if absent == LOST then
    return false
  elseif absent == GONE_AS_PLANNED then
    found.expired[id] = true
  end
  local ordinal = instance[5]
  if ordinal == 0 then
    return true
  end
  local holder = call('ZRANGEBYSCORE', found.sessions, ordinal, ordinal, 'LIMIT', 0, 1)[1]
  if not holder then
    return true
  end
  if call('EXISTS', P .. 'i:' .. tenant .. ':' .. esc(holder)) == 1 then
    return false
  end
  found.expired[holder] = true
  return absence(P, tenant, holder, ttl) == GONE_AS_PLANNED
end

-- So many elements are pushed with one command: Lua passes on no more than some thousands.
local PUSHED = 4000

local function append_lines(P, chain, found, seq, is_closed)
  if #chain[6] == 0 then
    return
  end
  local elements = {}
  for i, line in ipairs(chain[6]) do
    call('SET', P .. 'e:' .. line[1], line[2])
    elements[i] = whole(seq + i) .. ':' .. line[1]
  end
  local key = P .. 'l:' .. found.about
  local length
  for from = 1, #elements, PUSHED do
    length = call('RPUSH', key, unpack(elements, from, math.min(from + PUSHED - 1, #elements)))
  end
  local before = length - #elements
  -- `log` leads to what may be cleaned up: instances that are closed or have a line that is not their newest.
  local was_closed = found.head and present(found.head[CLOSURE])
  local was_in = before >= 2 or (before == 1 and was_closed)
  if not was_in and (length >= 2 or is_closed) then
    local oldest = chain[6][1][3]
    if before == 1 then
      local receipt = string.match(call('LINDEX', key, 0), ':(.*)$')
      oldest = string.match(call('GETRANGE', P .. 'e:' .. receipt, 0, 30), '^%[(%-?%d+)') or oldest
    end
    call('ZADD', P .. 'log', oldest, found.about)
  end
end

local function member_of_closed(chain, instance)
  return table.concat({ chain[3], instance[3], instance[4] or '', instance[5], instance[7] }, '\31')
end

local function write_lists(P, chain, found, instance)
  local tenant, id, head = chain[1], chain[3], found.head
  local was_closed = head and present(head[CLOSURE])
  if head and not was_closed and not instance[7] then
    return
  end
  local is_open = not instance[7]
  if head and was_closed then
    local member = closed_member(P, tenant, id)
    if not is_open and member == member_of_closed(chain, instance) then
      return
    end
    if member then
      call('ZREM', P .. 'closed:' .. tenant, member)
    end
    if is_open then
      call('PERSIST', P .. 'i:' .. found.about)
      call('ZREM', P .. 'expiring', found.about)
    end
  elseif head then
    call('ZREM', P .. 'open:' .. tenant, id)
  end
  if is_open then
    call('ZADD', P .. 'open:' .. tenant, 0, id)
    return
  end
  call('ZADD', P .. 'closed:' .. tenant, 0, member_of_closed(chain, instance))
  if ttl and not was_closed then
    local time = call('TIME')
    call('PEXPIRE', P .. 'i:' .. found.about, whole(ttl))
    call('ZADD', P .. 'expiring', whole(time[1] * 1000 + ttl), found.about)
  end
end

-- Lines of phases are counted while their flow is open.
local function write_phases(P, chain, found, was_open, is_open)
  local tenant, id, lines = chain[1], chain[3], nil
  local is_counted = not is_shadow(tenant)
  if was_open ~= is_open and found.head then
    lines = phases_of(P, found.about)
    for _, line in pairs(is_counted and was_open and lines or {}) do
      count_phase(line, -1)
    end
  end
  for _, phase in ipairs(chain[9]) do
    local place, line = phase[1], cjson.decode(phase[2])
    local old = call('HGET', P .. 'p:' .. found.about, place)
    if old then
      old = cjson.decode(old)
      index_phase(P, tenant, id, place, old, false)
      if not lines and is_open and is_counted then
        count_phase(old, -1)
      end
    end
    call('HSET', P .. 'p:' .. found.about, place, phase[2])
    index_phase(P, tenant, id, place, line, true)
    if lines then
      lines[place] = line
    elseif is_open and is_counted then
      count_phase(line, 1)
    end
  end
  if lines and is_open and is_counted then
    for _, line in pairs(lines) do
      count_phase(line, 1)
    end
  end
end

local function write_instance(P, chain, found)
  local instance, tenant, head = chain[7], chain[1], found.head
  local key = P .. 'i:' .. found.about
  call('HSET', key, 'head', instance[1], 'body', instance[2])
  write_lists(P, chain, found, instance)
  if not head and instance[5] > 0 then
    call('ZADD', found.sessions, instance[5], chain[3])
  end
  if instance[9] then
    call('ZADD', P .. 'due', instance[9], found.about)
  elseif head then
    call('ZREM', P .. 'due', found.about)
  end
  if instance[10] then
    call('ZADD', P .. 'looping:' .. tenant, instance[10], chain[3])
  elseif head and present(head[LOOPING]) then
    call('ZREM', P .. 'looping:' .. tenant, chain[3])
  end
  if not is_shadow(tenant) then
    if head then
      count_instance(head[MACHINE], head[STATE], present(head[CLOSURE]), present(head[WAKE_AT]), -1)
    end
    count_instance(instance[3], instance[6], instance[7] or nil, instance[9] or nil, 1)
  end
end

local function write_questions(P, chain, found)
  local tenant = chain[1]
  local asked = found.asked
  for _, question in ipairs(chain[8]) do
    local key = P .. 'q:' .. tenant .. ':' .. question[1]
    local old = call('GETRANGE', key, 0, 30)
    old = string.match(old, '^%["(%a+)"')
    call('SET', key, question[5])
    call('ZADD', P .. 'questions:' .. tenant, question[4], question[2])
    if question[3] == 'pending' then
      call('ZADD', P .. 'pending:' .. tenant, question[4], question[2])
      asked = question[2]
    else
      call('ZREM', P .. 'pending:' .. tenant, question[2])
      if asked == question[2] then
        asked = nil
      end
    end
    if not is_shadow(tenant) then
      if old then
        count('q\31' .. old, -1)
      end
      count('q\31' .. question[3], 1)
    end
  end
  if asked and asked ~= found.asked then
    call('HSET', P .. 'i:' .. found.about, 'asked', asked)
  elseif found.asked and not asked then
    call('HDEL', P .. 'i:' .. found.about, 'asked')
  end
end

