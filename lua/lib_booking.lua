-- lib_booking: what the scripts share about passes and seats.

-- One read for the whole batch: what `key` has for each of the names, read, by name.
local function lookup(command, key, names, read)
  local found = {}
  if #names == 0 then return found end
  for i, value in ipairs(redis.call(command, key, unpack(names))) do found[names[i]] = value and read(value) or nil end
  return found
end

-- What is at, at + step, … of the first `count` groups of a list.
local function column(list, at, step, count)
  local values = {}
  for i = 1, count do values[i] = list[at + (i - 1) * step] end
  return values
end

-- A write of many values at once, if there are any.
local function put(command, key, values) if #values > 0 then redis.call(command, key, unpack(values)) end end

-- A pass is "number state admitted_at expires_at[ booking]": a active, b busy (in use by the booking), u used, v void.
-- One that is active or busy is good while its visitor is in the active set: the sweep does not touch the record.
-- `digits` and `times` are the number and both times as text, since formatting takes longer than anything else here.
local function read_pass(text)
  if not text then return nil end
  local digits, state, times, admitted, expires, booking =
    string.match(text, '^(%d+) (%a) ((-?%d+) (-?%d+)) ?(.*)$')
  return { digits = digits, number = tonumber(digits), state = state, times = times, admitted = tonumber(admitted),
    expires = tonumber(expires), booking = booking }
end

local function new_pass(number, admitted, expires)
  return { digits = number, number = tonumber(number), times = admitted .. ' ' .. expires, expires = tonumber(expires) }
end

local function pass_text(pass)
  local text = pass.digits .. ' ' .. pass.state .. ' ' .. pass.times
  return pass.booking and pass.booking ~= '' and text .. ' ' .. pass.booking or text
end

-- Whether a pass is out: neither used, given back nor run out.
local function is_good(pass, now, active, visitor)
  return (pass.state == 'a' or pass.state == 'b') and pass.expires > now and redis.call('ZSCORE', active, visitor)
end

-- Appends where the visitor stands who is not in line, as `locate` says it.
local function put_standing(reply, pass, now, active, visitor)
  local code = not pass and 5 or ({ u = 3, v = 5 })[pass.state] or is_good(pass, now, active, visitor) and 2 or 4
  local n, known = #reply, code ~= 5
  reply[n + 1], reply[n + 2] = code, known and pass.number or 0
  reply[n + 3], reply[n + 4] = known and pass.admitted or 0, known and pass.expires or 0
end

-- Whether this store has known the event from its beginning: it never came back empty, or older than it was.
local function was_never_lost(key)
  local unsure, resume_at = unpack(redis.call('HMGET', key, 'unsure', 'resume_at'))
  return unsure == '0' and resume_at == '0'
end

-- A zone is "capacity taken version held".
local function read_zone(text)
  if not text then return nil end
  local capacity, taken, version, held = string.match(text, '^(%d+) (%d+) (-?%d+) (%d+)$')
  return { capacity = tonumber(capacity), taken = tonumber(taken), version = tonumber(version), held = tonumber(held) }
end

local function zone_text(zone)
  return string.format('%.0f %.0f %.0f %.0f', zone.capacity, zone.taken, zone.version, zone.held)
end

-- The zone of that name, read once; false when there is none.
local function zone_in(zones, key, name)
  if zones[name] == nil then zones[name] = read_zone(redis.call('HGET', key, name)) or false end
  return zones[name]
end

local function available(zone) return math.max(0, zone.capacity - zone.taken - zone.held) end

-- A hold is "visitor number zone quantity due", with "-" as the number where no pass was needed.
local function read_hold(text)
  local visitor, number, zone, quantity = string.match(text, '^(%S+) (%S+) (%S+) (%d+)')
  return { visitor = visitor, number = tonumber(number), zone = zone, quantity = tonumber(quantity) }
end

local function hold_text(visitor, number, zone, quantity, due)
  return visitor .. ' ' .. (number ~= '' and number or '-') .. ' ' .. zone .. ' ' .. quantity .. ' ' .. due
end
