-- A label leaks if an example contains a purchase, or an event at or after the first purchase of the session.
{% set changed = changed_condition('intent_examples') %}

with examples as (
    select * from {{ ref('intent_examples') }}
    {% if changed %}where {{ changed }}{% endif %}
)

select examples.session_key, examples.position
from examples
inner join {{ ref('fct_sessions') }} as sessions
    on examples.session_key = sessions.session_key
where examples.event_type = 'purchase'
    or examples.event_time >= sessions.first_purchase_at
    or examples.is_purchase != sessions.is_purchase
