{#- What a shopper was on with an event: the page, or without one the search itself, as `boat.models.sessions` asks a model. -#}
{% macro page_or_search() -%}
    coalesce(url, case when event_type = 'search' then 'search:' || query end)
{%- endmacro %}
