-- Deletes what is old, up to a limit.
--
-- KEYS      a bucket
-- ARGV[2]   { what, before, limit }
--             what: `entries`, `effects`, `beside` (closed instances beside a tenant, once their log is gone), or
--             `expired` (what is left of closed instances that have gone by time; before and limit are not of
--             interest to anybody but this script)
-- Replies   how many

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = home(KEYS[1])
local what, before, limit = unpack(cmsgpack.unpack(ARGV[2]))

-- The time of an instance's oldest line, `now` if that is lost.
local function time_of(receipt, otherwise)
  return tonumber(string.match(call('GETRANGE', P .. 'e:' .. receipt, 0, 30), '^%[(%-?%d+)') or otherwise)
end

-- Whether an instance is over: closed, or gone.
local function is_over(about)
  local head = call('HGET', P .. 'i:' .. about, 'head')
  if head then
    head = cjson.decode(head)
    return present(head[CLOSURE]) ~= nil, head[12]
  end
  local tenant, id = string.match(about, '^([^:]*):(.*)$')
  return not call('ZSCORE', P .. 'open:' .. tenant, unesc(id)), nil
end

-- The entry of `log` that has been due the longest loses its oldest line, and is due anew by the next one.
local function delete_entries()
  local deleted = 0
  while deleted < limit do
    local oldest = call('ZRANGEBYSCORE', P .. 'log', '-inf', '(' .. whole(before), 'LIMIT', 0, 1)[1]
    if not oldest then
      break
    end
    local key = P .. 'l:' .. oldest
    local lines = call('LRANGE', key, 0, 1)
    local over, updated_at = is_over(oldest)
    if #lines == 0 or (#lines == 1 and not over) then
      call('ZREM', P .. 'log', oldest)
    else
      call('LPOP', key)
      call('DEL', P .. 'e:' .. string.match(lines[1], ':(.*)$'))
      deleted = deleted + 1
      local next_receipt = lines[2] and string.match(lines[2], ':(.*)$')
      if not next_receipt then
        call('ZREM', P .. 'log', oldest)
        if string.find(oldest, '^[^:]*~') and updated_at then
          call('ZADD', P .. 'beside', whole(updated_at), oldest)
        end
      elseif not over and call('LLEN', key) == 1 then
        call('ZREM', P .. 'log', oldest)
      else
        call('ZADD', P .. 'log', whole(time_of(next_receipt, before)), oldest)
      end
    end
  end
  return deleted
end

local function delete_effects()
  local old = call('ZRANGEBYSCORE', P .. 'settled', '-inf', '(' .. whole(before), 'LIMIT', 0, limit)
  for _, name in ipairs(old) do
    local tenant, key = string.match(name, '^%d+:([^:]*):(.*)$')
    local progress = find_effect(P, tenant, key)
    if progress then
      count('e\31' .. progress[STATUS], -1)
      set_provider(P, tenant, key, progress, false)
    end
    call('DEL', P .. 'o:' .. tenant .. ':' .. key)
    call('ZREM', P .. 'effects:' .. tenant, key)
    call('ZREM', P .. 'undelivered:' .. tenant, key)
    call('ZREM', P .. 'of:' .. tenant .. ':' .. esc(string.match(key, '^(.*):%d+:%d+$') or key), key)
    call('ZREM', P .. 'settled', name)
  end
  return #old
end

local function delete_closed(set, bound)
  local old = call('ZRANGEBYSCORE', P .. set, '-inf', bound, 'LIMIT', 0, limit)
  for _, about in ipairs(old) do
    local tenant, id = string.match(about, '^([^:]*):(.*)$')
    id = unesc(id)
    local member = closed_member(P, tenant, id)
    call('ZREM', P .. set, about)
    if member then
      forget(P, tenant, id, member)
    end
  end
  return #old
end

local deleted
if what == 'entries' then
  deleted = delete_entries()
elseif what == 'effects' then
  deleted = delete_effects()
elseif what == 'beside' then
  deleted = delete_closed('beside', '(' .. whole(before))
else
  local time = call('TIME')
  deleted = delete_closed('expiring', whole(time[1] * 1000))
end
write_counts(P)
return deleted
