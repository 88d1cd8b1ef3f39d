{#- Page of an event, or `search:` and the words of a search without a page, as `boat.models.sessions` names it. -#}
{% macro page_or_search() -%}
    coalesce(url, case when event_type = 'search' then 'search:' || query end)
{%- endmacro %}
