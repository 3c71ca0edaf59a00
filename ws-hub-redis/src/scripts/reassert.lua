-- The calling node has these logins, and may have missed something.
-- KEYS: user and log, each. ARGV, each: name of the user, connection, login, what it has confirmed, limit and 1 (0: none), 1 if a
-- newer one replaces it.
-- Answers, each: S (starts at), G (gone) or X (of lost data); and the start, or the frame.
if not is_alive(here) then return { 'LEASE' } end
allow_oom()

-- Puts a login back that went only because its node was thought to be gone. Returns it, or nothing.
local function put_back(user, name, login, limit, replace)
  -- a newer one has come, and got what was to be sent: it may be gone again
  if (replace or limit == 2) and user.last > login.number then return end
  local others = living(user)
  if limit > 0 and #others >= limit - 1 then return end
  if replace then
    -- older ones that were put back before this one
    local told = { [here] = true }
    remove(user, function() return true end)
    for _, other in ipairs(others) do
      if not told[other.node] then
        told[other.node] = true
        tell(other.node, 2, pack('>I8', login.number) .. named(name))
      end
    end
  end
  user.logins[#user.logins + 1] = login
  return login
end

local out, at = {}, ARG
for i = KEY, #KEYS, 2 do
  local name, connection, number = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local confirmed, limit, replace = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), ARGV[at + 5] == '1'
  at = at + 6
  local user = load(KEYS[i])
  local login = find(user, number)
  local kind, value = 'S', ''
  if not login then
    kind, value = 'G', frame_of(user, number)
    local is_lost = is_of_lost_data(user, number) or confirmed > user.top or is_ambiguous(user, number, confirmed)
    if value == '' and is_lost then kind = 'X'
    elseif value == '' then
      login = { number = number, connection = connection, start = confirmed, confirmed = confirmed }
      login = put_back(user, name, login, limit, replace)
    end
  end
  if login then
    -- it may have been that of an earlier name of the node
    login.node = here
    put(user, login)
    call('SADD', members, name)
    call('PERSIST', user.key)
    kind = 'S'
  end
  cover(user, name, login)
  out[#out + 1] = kind
  out[#out + 1] = login and login.start or value
end
return out
