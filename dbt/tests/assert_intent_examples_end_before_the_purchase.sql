-- A label leaks when an example holds a purchase, or anything at or after the session's first one.
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
