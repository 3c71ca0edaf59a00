-- How many connections users have.
-- KEYS: user, each. Answers, each: how many, and the first of their nodes by name, or nothing.
local out = {}
for i = KEY, #KEYS do
  local logins, first = living(load(KEYS[i])), ''
  for _, login in ipairs(logins) do
    if first == '' or login.node < first then first = login.node end
  end
  out[#out + 1] = #logins
  out[#out + 1] = first
end
return out
